#!/usr/bin/env python3
"""Writes the corpus that fuzzing starts from: what a server or a person would say, one file a case.

The messages of pgoutput are those that a real server sent (crates/postgres/src/pgoutput/tests/*.hex); what no capture
holds is written out here by hand. What fuzzing found later stands beside it and is left alone.
"""

import json
import pathlib
import re
import struct

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
FAR = 1 << 40


def write(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def packet(tag, body=b""):
    return tag + struct.pack(">I", len(body) + 4) + body


def data(message, start=FAR):
    return packet(b"d", b"w" + struct.pack(">QQQ", start, start, 0) + message)


def keepalive(end, reply=0):
    return packet(b"d", b"k" + struct.pack(">QQB", end, 0, reply))


def error(code, severity=b"ERROR", tag=b"E"):
    return packet(tag, b"S%s\0V%s\0C%s\0Mwords\0Ddetail\0Hhint\0P1\0\0" % (severity, severity, code))


def begin(at, xid=700):
    return b"B" + struct.pack(">QQI", at, 1, xid)


def commit(at, end=None):
    return b"C\0" + struct.pack(">QQQ", at, end or at + 8, 2)


def cell(value):
    if value is None or value == "=":
        return b"n" if value is None else b"u"
    tag, value = (b"t", value.encode()) if isinstance(value, str) else (b"b", value)
    return tag + struct.pack(">I", len(value)) + value


def row(*values):
    return struct.pack(">H", len(values)) + b"".join(cell(value) for value in values)


def change(tag, relation, rest):
    return tag + struct.pack(">I", relation) + rest


def relation(number, schema, name, columns, identity=b"d"):
    described = b"".join(
        struct.pack(">B", key) + column.encode() + b"\0" + struct.pack(">Ii", kind, -1) for key, column, kind in columns
    )
    names = schema.encode() + b"\0" + name.encode() + b"\0"
    return change(b"R", number, names + identity + struct.pack(">H", len(columns)) + described)


def xid(message, number=700):
    return message[:1] + struct.pack(">I", number) + message[1:]


TABLE = relation(7, "public", "t", [(1, "id", 23), (0, "v", 25), (0, "big", 25)])
FULL = relation(8, "public", "f", [(1, "a", 25), (1, "b", 23)], b"f")
LOG = relation(9, "pgstream", "schema_log", [(1, "id", 20), (0, "command", 25), (0, "objects", 3802), (0, "failure", 25)])
INSERTS = [change(b"I", 7, b"N" + row(str(n), "value %d" % n, None)) for n in range(5)]
CHANGES = INSERTS + [
    change(b"U", 7, b"N" + row("1", "other", "=")),
    change(b"U", 7, b"K" + row("2", None, None) + b"N" + row("20", "moved", "=")),
    change(b"D", 7, b"K" + row("3", None, None)),
    change(b"I", 7, b"N" + row(struct.pack(">i", 9), b"binary", b"\0\xff")),
    b"T" + struct.pack(">IBI", 1, 3, 7),
]
WHOLE = [
    change(b"I", 8, b"N" + row("a", "1")),
    change(b"U", 8, b"O" + row("a", "1") + b"N" + row("b", "1")),
    change(b"D", 8, b"O" + row("b", "1")),
]
PREPARED = struct.pack(">QQQI", FAR, FAR + 8, 3, 700) + b"gid\0"
OTHERS = [
    b"O" + struct.pack(">Q", 5) + b"origin\0",
    b"Y" + struct.pack(">I", 16400) + b"public\0mood\0",
    b"M\x01" + struct.pack(">Q", FAR) + b"prefix\0" + struct.pack(">I", 3) + b"abc",
    b"M\0" + struct.pack(">Q", FAR) + b"\xff\0" + struct.pack(">I", 0),
    b"S" + struct.pack(">IB", 700, 1),
    b"E",
    b"c" + struct.pack(">IBQQQ", 700, 0, FAR, FAR + 8, 3),
    b"A" + struct.pack(">II", 700, 701),
    b"A" + struct.pack(">IIQQ", 700, 700, FAR, 3),
    b"b" + PREPARED,
    b"P\0" + PREPARED,
    b"K\0" + PREPARED,
    b"p\0" + PREPARED,
    b"r\0" + struct.pack(">QQQQI", FAR, FAR + 8, 3, 4, 700) + b"gid\0",
    b"T" + struct.pack(">IBII", 2, 1, 7, 8),
    relation(10, "", "nothing", [], b"n"),
    relation(11, "é", "ta\"ble", [(1, "c%d" % n, 23) for n in range(40)], b"i"),
]


def column(number, name, **more):
    return {
        "num": number, "name": name, "type": "integer", "type_id": 23, "typmod": -1, "not_null": False, "identity": "",
        "generated": "", "collation_id": 0, "storage": "p", "storage_is_default": True, "local": True,
        "inherited": False, "grants": [], **more,
    }  # fmt: skip


def table(**more):
    return {
        "schema": "public", "name": "t", "owner": "me", "kind": "r", "persistence": "p", "columns": [column(1, "a")],
        "grants": [], **more,
    }  # fmt: skip


def schema_changes():
    other = table(columns=[column(1, "b", type="text", type_id=25, not_null=True, default="'x'::text")], name="u")
    yield "create", [{"class": "table", "id": 1, "was": None, "is": table()}]
    yield "drop", [{"class": "table", "id": 1, "was": table(), "is": None}]
    yield "alter", [{"class": "table", "id": 1, "was": table(), "is": other, "must_copy": True}]
    yield "schema", [{"class": "schema", "id": 1, "was": {"name": "a", "owner": "x", "grants": []}, "is": {"name": "b", "owner": "y", "grants": []}}]
    for kind in ("e", "c", "d", "r"):
        yield "type-" + kind, [{"class": "type", "id": 1, "is": {"schema": "s", "name": "n", "owner": "o", "kind": kind, "labels": ["a", "b"], "columns": [column(1, "a")], "grants": []}}]
    named = {"schema": "s", "name": "n", "owner": "o", "definition": "CREATE SOMETHING", "identity": "s.n", "grants": [], "arguments": "integer", "kind": "f"}
    for kind in ("view", "materialized_view", "sequence", "function", "extension", "operator", "cast", "collation", "conversion",
                 "text_search_dictionary", "text_search_configuration", "statistics", "default_privileges", "foreign_table"):  # fmt: skip
        yield kind, [{"class": kind, "id": 2, "was": None, "is": dict(table(), **named)}]
    yield "other", [{"class": "other", "type": "operator class", "identity": "public.x USING btree"}]


def streams():
    captured = [
        bytes.fromhex(line)
        for file in ("server_15.hex", "server_15_streamed.hex")
        for line in (ROOT / "crates/postgres/src/pgoutput/tests" / file).read_text().split()
    ]
    first = [begin(FAR), TABLE, *CHANGES, commit(FAR)]
    second = [begin(FAR + 99), FULL, *WHOLE, *INSERTS, commit(FAR + 99)]
    logged = json.dumps(next(schema_changes())[1])
    ddl = [begin(FAR + 200), LOG, change(b"I", 9, b"N" + row("1", "CREATE TABLE", logged, None)), TABLE, INSERTS[0], commit(FAR + 200)]
    yield "captured", captured
    yield "transactions", first + second
    yield "schema-change", ddl + second
    yield "backwards", first + [begin(FAR - 50), commit(FAR - 50)] + [begin(5), *INSERTS[:1], commit(5)]
    yield "wrong-order", [begin(FAR), begin(FAR)]
    yield "no-begin", [TABLE, *INSERTS]
    yield "unknown-relation", [begin(FAR), *INSERTS]
    yield "described-again", [begin(FAR), TABLE, *INSERTS, relation(7, "public", "t", [(1, "id", 23)]), change(b"I", 7, b"N" + row("1")), commit(FAR)]


def main():
    for name, messages in streams():
        said = b"".join(data(message) for message in messages)
        write("stream", name, said)
        write("frames", name, said + keepalive(FAR, 1))
        for index, message in enumerate(messages if name == "captured" else []):
            write("pgoutput", "%s-%02d" % (name, index), message)
    for index, message in enumerate([begin(FAR), commit(FAR), TABLE, FULL, LOG, *CHANGES, *WHOLE, *OTHERS]):
        write("pgoutput", "made-%02d" % index, message)
        write("pgoutput", "made-%02d-streamed" % index, xid(message))
    for name, messages in (("changes", CHANGES), ("whole", WHOLE), ("inserts", INSERTS)):
        write("tuples", name, b"".join(bytes([len(message)]) + message for message in messages))
    for index, end in enumerate([packet(b"c"), packet(b"C", b"COPY 0\0"), error(b"58P01"), error(b"55000", b"WARNING", b"N"), error(b"57P01", b"FATAL"), packet(b"N", b"SNOTICE\0\0"), packet(b"S", b"a\0b\0")]):
        write("frames", "end-%d" % index, data(INSERTS[0]) + keepalive(FAR) + end)

    ok, ready = packet(b"R", struct.pack(">I", 0)), packet(b"Z", b"I")
    hello = ok + packet(b"S", b"server_version\x0018.1\0") + packet(b"K", struct.pack(">II", 1, 2)) + ready

    def answer(*values):
        fields = b"".join(struct.pack(">i", -1) if v is None else struct.pack(">I", len(v)) + v for v in values)
        return packet(b"T", struct.pack(">H", 0)) + packet(b"D", struct.pack(">H", len(values)) + fields) + packet(b"C", b"X\0") + ready

    asked = answer(b"7512345678901234567", b"2", b"0/1A2B3C4", b"app") + answer(b"00000002.history", b"1\t0/3000000\tno recovery target specified\n\n# x\n")
    streaming = packet(b"W", b"\0\0\0") + data(begin(FAR)) + packet(b"c")
    write("session", "whole", hello + asked + streaming)
    write("session", "null-fields", hello + answer(b"1", b"x", None))
    write("session", "slot-lost", hello + asked + error(b"55000") + ready + answer(b"lost", b"f"))
    write("session", "notice", error(b"00000", b"NOTICE", b"N") + packet(b"v", b"\0\x03\0\0\0\0\0\0") + hello + asked + streaming)
    for name, kind, rest in (("clear", 3, b""), ("md5", 5, b"salt"), ("sasl", 10, b"SCRAM-SHA-256\0\0"), ("gss", 7, b"")):
        extra = packet(b"R", struct.pack(">I", 11) + b"r=x,s=c2FsdA==,i=4096") + packet(b"R", struct.pack(">I", 12) + b"v=AAAA") if kind == 10 else b""
        write("session", "login-" + name, packet(b"R", struct.pack(">I", kind) + rest) + extra + hello + asked)
    write("session", "refused", error(b"28P01", b"FATAL"))

    prepared = packet(b"1") + packet(b"t", b"\0\0") + packet(b"n") + ready
    rows = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\x01\0\0\0\x04\0\0\0\x07" + b"\xff\xff"
    out = packet(b"2") + packet(b"H", b"\x01\0\x01\0\x01")
    end = packet(b"c") + packet(b"C", b"COPY 1\0") + ready
    write("copy", "whole", prepared + out + packet(b"d", rows[:19]) + packet(b"d", rows[19:]) + end)
    write("copy", "no-end", prepared + out + packet(b"d", rows))
    write("copy", "no-copy-done", prepared + out + packet(b"d", rows) + packet(b"C", b"COPY 1\0") + ready)
    write("copy", "error", prepared + out + packet(b"d", rows) + error(b"XX000") + ready)
    write("copy", "refused", error(b"42P01") + ready)
    write("copy", "rows-instead", prepared + packet(b"2") + packet(b"D", b"\0\x01\0\0\0\x01x") + end)

    for file in ("README.md", "docs/configuration.md", "docs/operations.md"):
        for index, block in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / file).read_text(), re.S)):
            write("config", "%s-%d" % (pathlib.Path(file).stem, index), block)
    write("config", "shop", (ROOT / "crates/cli/examples/demo/shop.yaml").read_bytes())
    write("config", "env", "#env\nPGSTREAM_POSTGRES_LISTENER_URL=\"postgres://u:p@h/db\" # x\nexport A='b'\nB=${SET}x${UNSET}\n")
    write("config", "aliases", "a: &a {b: [1, 2]}\nc: *a\n<<: *a\nd: |\n  text\ne: !!str 1\n")
    write("config", "wrong", "source: [\nsource: 1\n? x\n: y\n\tz: 64MiB\n")

    for index, text in enumerate([
        "postgresql://user:pass@host:5432/db?sslmode=require",
        "postgres://u:p%40ss@[::1]:5433,h2:5434,/db?options=-c%20work_mem%3D64MB&connect_timeout=3&target_session_attrs=primary",
        "postgresql:///db?host=/tmp&user=u&password=p&keepalives=0&tcp_user_timeout=100&passfile=/x",
        "secretsmanager://name?region=eu-central-1&user=a",
        "secretsmanager://arn:aws:secretsmanager:eu-central-1:123456789012:secret:name-AbCdEf?host=h&port=5432&dbname=d",
        "@host/db", ":p@host/db?sslrootcert=system", "/p@h", "?x=1@host", "%zz@host/db", "host:99999/db", "#a@h/db",
    ]):  # fmt: skip
        write("url", "%02d" % index, text)

    write("snapshot_text", "listing", """;
; Archive created at 2026-11-23 03:00:00 UTC
; Selected TOC Entries:
;
215; 1259 16387 TABLE public orders alice
216; 1259 16390 TABLE public lines; x alice
;\tdepends on: 215
3300; 1259 16400 INDEX public orders_at_idx alice
;\tdepends on: 215
3301; 0 0 INDEX ATTACH public a_b alice
;\tdepends on: 3300 215 x
3310; 2606 16410 FK CONSTRAINT public lines lines_order_fkey alice
;\tdepends on: 216 215
3; 3079 1 EXTENSION - plpgsql
""")
    write("snapshot_text", "script", """--
-- dump
--

\\restrict abc

SET a = 0;
SET transaction_timeout = 0;
SET b = 1;

CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $_$ SELECT ';' $_$;
CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;
COMMENT ON TABLE "a;b" IS 'it''s; ok'; /* c ; */
SELECT E'\\\\';' ; SELECT $é$;$é$ "é";

\\unrestrict abc

""")
    write("snapshot_text", "entries", """SET a = 0;

--
-- TOC entry 7 (class 1259 OID 16400)
-- Name: x; Type: INDEX; Schema: public; Owner: alice
--

CREATE INDEX x ON t (a) WHERE b <> '--
';


--
-- TOC entry 3 (class 2606 OID 16404)
-- Name: t k; Type: CONSTRAINT; Schema: public; Owner: alice
--

ALTER TABLE ONLY t ADD CONSTRAINT k PRIMARY KEY (a);


""")
    write("snapshot_text", "open-ends", "SET a;\n'open; \"open; $x$ open /* open -- open E'\\")
    for name, changes in schema_changes():
        write("schema_log", name, json.dumps(changes))


main()
