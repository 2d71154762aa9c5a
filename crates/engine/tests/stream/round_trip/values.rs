//! Types and their values: the edges as text (`14:` before those that only servers from 14 on know), and an SQL
//! expression over `random()` for others.

/// What the catalog has for itself: values of these cannot be written.
pub const NOT_FOR_COLUMNS: &[&str] = &[
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// Name, edges, values at random.
pub type Values = (&'static str, &'static [&'static str], &'static str);

const AT: &str = "to_timestamp((random() * 8e9) - 4e9)";

pub const BUILT_IN: &[Values] = &[
    ("aclitem", &["postgres=r/postgres", "=arwdDxt/postgres", "postgres=a*r*/postgres"], ""),
    ("bit", &["0000000", "1111111", "1010101"], "(random() * 127)::int::bit(7)"),
    ("bool", &["t", "f"], "random() < 0.5"),
    (
        "box",
        &["(1,1),(0,0)", "(1e300,0),(-1e300,-0)", "14:(Infinity,1),(-Infinity,NaN)"],
        "box(point(random(), random()), point(-random(), 1e10 * random()))",
    ),
    ("bpchar", &["", "a", "seven 7", "é漢🦀"], "left(md5(random()::text), (random() * 7)::int)"),
    (
        "bytea",
        &["\\x", "\\x00", "\\x00ff5c0a0d0927", "\\\\"],
        "decode(repeat(md5(random()::text), (random() * 9)::int), 'hex')",
    ),
    ("char", &["", "a", "'", "\\"], "chr(33 + (random() * 90)::int)"),
    ("cid", &["0", "4294967295"], "((random() * 4294967295)::bigint::text)"),
    (
        "cidr",
        &["0.0.0.0/0", "10/8", "::/0", "2001:db8::/32", "255.255.255.255/32"],
        "set_masklen('10.0.0.0'::cidr, 8 + (random() * 24)::int)",
    ),
    (
        "circle",
        &["<(0,0),0>", "<(-0,1e-300),1e300>", "14:<(NaN,Infinity),1>"],
        "circle(point(random(), -random()), random() * 1e9)",
    ),
    (
        "date",
        &["infinity", "-infinity", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01", "5874897-12-31", "2000-02-29"],
        "'2000-01-01'::date + ((random() - 0.5) * 1400000)::int",
    ),
    ("datemultirange", &["{}", "{(,)}", "{[2026-01-01,2026-02-01),[2027-01-01,infinity)}"], ""),
    (
        "daterange",
        &["empty", "(,)", "[2026-01-01,2026-02-01)", "[-infinity,infinity)", "[4713-01-01 BC,)"],
        "daterange('2000-01-01'::date, '2000-01-01'::date + (random() * 9999)::int)",
    ),
    (
        "float4",
        &["NaN", "Infinity", "-Infinity", "0", "-0", "1e-45", "3.4028235e38", "1.17549435e-38", "0.1"],
        "(random() - 0.5) * power(10, (random() * 60 - 30)::int)",
    ),
    (
        "float8",
        &["NaN", "Infinity", "-Infinity", "0", "-0", "5e-324", "1.7976931348623157e308", "0.1", "9007199254740993"],
        "(random() - 0.5) * power(10, (random() * 500 - 250)::int)",
    ),
    (
        "inet",
        &["0.0.0.0/0", "255.255.255.255", "::", "::1/64", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:1.2.3.4"],
        "'10.0.0.0'::inet + (random() * 16777215)::bigint",
    ),
    ("int2", &["-32768", "32767", "0", "-1"], "(random() * 65535 - 32768)::int"),
    ("int2vector", &["", "1", "-32768 0 32767"], ""),
    ("int4", &["-2147483648", "2147483647", "0", "-1"], "(random() * 4294967295 - 2147483648)::bigint"),
    ("int4multirange", &["{}", "{(,)}", "{[1,5),[7,9)}", "{[-2147483648,2147483647)}"], ""),
    (
        "int4range",
        &["empty", "(,)", "[1,5)", "[-2147483648,2147483647)", "(,7)"],
        "int4range(n, n + (random() * 99)::int)",
    ),
    ("int8", &["-9223372036854775808", "9223372036854775807", "0", "-1"], "((random() - 0.5) * 1.8e19)::bigint"),
    ("int8multirange", &["{}", "{(,)}", "{[1,5),[7,)}"], ""),
    (
        "int8range",
        &["empty", "(,)", "[-9223372036854775808,9223372036854775807)"],
        "int8range(n, n + (random() * 1e15)::bigint)",
    ),
    (
        "interval",
        &[
            "0",
            "-178000000 years",
            "178000000 years",
            "1 mon -1 day 00:00:00.000001",
            "-1 mon 30 days -00:00:01",
            "14:-00:00:00.000001",
        ],
        "make_interval(0, (random() * 99 - 50)::int, 0, (random() * 99 - 50)::int, 0, 0, random() * 1e6 - 5e5)",
    ),
    (
        "json",
        &["null", " {\"a\" : 1 , \"a\": 2}", "[]", "\"\\u00e9 \\\\ \\\" 漢\"", "1e400", "\"\\ud83e\\udd80\""],
        "json_build_object(md5(random()::text), random(), 'n', n)",
    ),
    (
        "jsonb",
        &["null", "{\"a\": 1, \"b\": [1, null, {}]}", "[]", "\"\\\\ \\\" 漢\"", "1e400", "-0.00", "{}"],
        "jsonb_build_object(md5(random()::text), random(), 'n', n)",
    ),
    (
        "jsonpath",
        &["$", "strict $.a[*] ? (@ > 1)", "lax $.\"a b\"[1 to 3].type()", "$.** ? (@ like_regex \"^a\" flag \"i\")"],
        "",
    ),
    ("line", &["{1,2,3}", "{0,-1,1e300}", "{-1,0,0}"], ""),
    (
        "lseg",
        &["[(0,0),(1,1)]", "[(-0,1e-300),(1e300,0)]"],
        "lseg(point(random(), random()), point(random(), -random()))",
    ),
    ("macaddr", &["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03"], "left(md5(random()::text), 12)"),
    (
        "macaddr8",
        &["00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03:04:05"],
        "left(md5(random()::text), 16)",
    ),
    (
        "money",
        &["-92233720368547758.08", "92233720368547758.07", "0", "-0.01"],
        "((random() - 0.5) * 1e12)::numeric(20,2)",
    ),
    (
        "name",
        &["", "n", "a name with \"quotes\" and é", "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"],
        "md5(random()::text)",
    ),
    (
        "numeric",
        &[
            "NaN",
            "14:Infinity",
            "14:-Infinity",
            "0",
            "0.00",
            "-0.000",
            "1e1000",
            "1e-1000",
            "123456789012345678901234567890.123456789",
            "10000",
            "9999.9999",
            "0.0001",
        ],
        "((random() - 0.5) * power(10, (random() * 40 - 20)::int))::numeric",
    ),
    ("nummultirange", &["{}", "{(,)}", "{[1.50,2],(3,4.000]}"], ""),
    ("numrange", &["empty", "(,)", "(,1.50]", "[1.5,2.50)", "(-1e100,1e100]"], "numrange(n, n + random()::numeric)"),
    ("oid", &["0", "4294967295", "2147483648"], "(random() * 4294967295)::bigint"),
    ("oidvector", &["", "1", "0 4294967295 7"], ""),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))", "((-0,1e300))"], ""),
    (
        "pg_lsn",
        &["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"],
        "to_hex((random() * 4e9)::bigint) || '/' || to_hex((random() * 4e9)::bigint)",
    ),
    ("pg_snapshot", &["10:20:10,14,15", "1:1:", "4294967297:4294967299:4294967298"], ""),
    ("point", &["(0,0)", "(-0,1e-300)", "(1e308,-1e308)", "(NaN,Infinity)"], "point(random(), random() * 1e9)"),
    ("polygon", &["((0,0))", "((0,0),(1,1),(2,0))", "((-0,1e300),(1,1))"], ""),
    ("refcursor", &["", "c", "a cursor \"é\""], "md5(random()::text)"),
    ("regclass", &["pg_class", "s0", "-"], ""),
    ("regcollation", &["\"C\"", "\"POSIX\"", "-"], ""),
    ("regconfig", &["english", "simple"], ""),
    ("regdatabase", &["postgres"], ""),
    ("regdictionary", &["simple", "english_stem"], ""),
    ("regnamespace", &["pg_catalog", "public", "-"], ""),
    ("regoper", &["||/", "|/", "0"], ""),
    ("regoperator", &["+(integer,integer)", "-(NONE,integer)", "0"], ""),
    ("regproc", &["now", "-"], ""),
    ("regprocedure", &["abs(integer)", "pg_catalog.upper(text)", "-"], ""),
    ("regrole", &["postgres", "-"], ""),
    ("regtype", &["integer", "text[]", "timestamp with time zone", "mood", "-"], ""),
    (
        "text",
        &["", " ", "\\N", "\\.", "NULL", "a\tb\nc\rd\\e'f\"g", "é 漢 🦀 \u{1}\u{7f}", "$$ {} , ()"],
        "repeat(md5(random()::text), (power(random(), 8) * 400)::int)",
    ),
    (
        "tid",
        &["(0,0)", "(4294967295,65535)", "(0,1)"],
        "format('(%s,%s)', (random() * 4294967295)::bigint, (random() * 65535)::int)",
    ),
    ("time", &["00:00:00", "24:00:00", "23:59:59.999999", "00:00:00.000001"], "(random() * interval '24 hours')::time"),
    (
        "timestamp",
        &["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "epoch", "2000-01-01"],
        AT,
    ),
    (
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "4713-01-02 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "epoch",
            "2026-03-29 02:30:00 Europe/Berlin",
        ],
        AT,
    ),
    (
        "timetz",
        &["00:00:00+15:59", "24:00:00-15:59", "12:34:56.789012+05:30"],
        "(random() * interval '24 hours')::time",
    ),
    ("tsmultirange", &["{}", "{(,)}", "{[2026-01-01,2026-02-01),[2027-01-01,infinity)}"], ""),
    ("tsquery", &["", "a", "fat & (rat | !cat)", "a <-> b:*AB", "'it''s \\\\ \"q\"'"], ""),
    ("tsrange", &["empty", "(,)", "[-infinity,infinity]", "[2026-01-01,2026-02-01)"], ""),
    ("tstzmultirange", &["{}", "{(,)}", "{[2026-01-01 00:00+00,2026-02-01 00:00+00)}"], ""),
    ("tstzrange", &["empty", "(,)", "[2026-01-01 00:00+00,)", "(-infinity,2026-01-01 00:00:00.000001+00]"], ""),
    (
        "tsvector",
        &["", "a", "'a':1A 'b' 'c':2B,16383", "'it''s':1 '漢'"],
        "to_tsvector('simple', md5(random()::text) || ' ' || n)",
    ),
    ("txid_snapshot", &["10:20:10,14,15", "1:1:"], ""),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"], "md5(random()::text)"),
    ("varbit", &["", "0", "1", "101010101", "11111111111111111"], "(random() * 1e9)::int::bit(31)"),
    ("varchar", &["", " ", "\\N", "é 漢 🦀"], "md5(random()::text)"),
    ("xid", &["0", "4294967295", "3"], ""),
    ("xid8", &["0", "18446744073709551615", "4294967296"], ""),
    ("xml", &["<a/>", "text &amp; more", "<a b=\"c\">é<!-- x --><![CDATA[<]]></a>"], ""),
];

/// Makes what users make; before any table.
pub const MAKE: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE SCHEMA \"Odd schema\";
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy \"quoted\", with comma'); CREATE TYPE \"Odd schema\".\"Enum\" AS ENUM ('é', '');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN few AS positive CHECK (VALUE < 1000000);
    CREATE DOMAIN moods AS mood[]; CREATE DOMAIN short AS varchar(8);
    CREATE TYPE plain AS (a int, b text); CREATE TYPE pair AS (a int, b text, m mood, p plain[]);
    CREATE TYPE span AS RANGE (subtype = float8); CREATE TYPE words AS RANGE (subtype = text);";

pub const MADE: &[Values] = &[
    ("mood", &["sad", "it's ok", "happy \"quoted\", with comma"], ""),
    ("\"Odd schema\".\"Enum\"", &["é", ""], ""),
    ("positive", &["1", "2147483647"], "1 + (random() * 1e6)::int"),
    ("few", &["1", "999999"], ""),
    ("moods", &["{}", "{sad,NULL,it's ok}"], ""),
    ("short", &["", "é漢🦀"], "left(md5(random()::text), 8)"),
    ("plain", &["(,)", "(1,\"\")", "(-7,\"a, \"\"b\"\" (c) \\\\\")"], "ROW((random() * 99)::int, md5(random()::text))"),
    ("pair", &["(,,,)", "(1,x,sad,\"{}\")", "(2,,\"it's ok\",\"{\"\"(1,a)\"\",NULL}\")"], ""),
    ("span", &["empty", "(,)", "[-Infinity,NaN]", "[1.5,2.5)"], "span(n, n + random())"),
    ("words", &["empty", "(,)", "[\"a, b\",\"c \\\"q\\\"\")", "[\"\",z]"], ""),
    ("hstore", &["", "a=>1,b=>NULL", "\"a \\\" =>\"=>\"\\\\, é\""], "hstore(md5(random()::text), n::text)"),
    ("citext", &["", "CiText", "citext É"], "upper(left(md5(random()::text), 9))"),
    ("ltree", &["", "a.b.c", "Top"], "'Top.' || replace(md5(random()::text), 'a', '_.b')"),
    ("lquery", &["*", "a.*{1,3}.!b|c@*"], ""),
    ("varchar(20)", &["", "twenty é"], "left(md5(random()::text), 20)"),
    ("numeric(20,5)", &["0", "-123456789012345.12345", "NaN"], "(random() - 0.5) * 1e9"),
    ("timestamp(0)", &["infinity", "2026-01-01 00:00:01"], ""),
    ("bit varying(9)", &["", "101"], ""),
];
