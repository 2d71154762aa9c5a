//! A source that answers as it should until the stream starts, and says anything after that: the stream ends with an
//! error that names it, the target keeps what it had, and memory stays bounded.

use std::time::Duration;

use pgstream_engine::stream::Error;
use pgstream_testkit::{Liar, Lie, Lies};

use crate::harness::{Pair, Running, describe, pair, server};

/// Far behind everything that the real source has written.
const FAR: u64 = 0xFFFF_0000_0000;
/// The table's id in the lies.
const TABLE: u32 = 4_000_000_000;

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// XLogData with one message.
fn frame(message: &[u8]) -> Vec<u8> {
    packet(b'd', &[b"w", &FAR.to_be_bytes()[..], &FAR.to_be_bytes(), &[0; 8], message].concat())
}

fn frames(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|message| frame(message)).collect()
}

fn begin(commit: u64) -> Vec<u8> {
    [b"B", &commit.to_be_bytes()[..], &[0; 8], &900_u32.to_be_bytes()].concat()
}

fn commit(at: u64, end: u64) -> Vec<u8> {
    [b"C\0", &at.to_be_bytes()[..], &end.to_be_bytes(), &[0; 8]].concat()
}

/// `public.t (id int PRIMARY KEY, v text)`, or what is said of it.
fn relation(columns: u16, body: &[u8]) -> Vec<u8> {
    [b"R", &TABLE.to_be_bytes()[..], b"public\0t\0d", &columns.to_be_bytes(), body].concat()
}

const COLUMNS: &[u8] = b"\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF\0v\0\0\0\0\x19\xFF\xFF\xFF\xFF";

fn row(tag: u8, relation: u32, tuple: &[u8]) -> Vec<u8> {
    [&[tag][..], &relation.to_be_bytes(), tuple].concat()
}

/// `(id, v)`, in text.
fn insert(id: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [b"t", &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    row(b'I', TABLE, &[b"N\0\x02", &text(id)[..], &text(value)].concat())
}

struct Scene {
    pair: Pair,
    before: String,
}

const STATE: &str = "SELECT (SELECT string_agg(t::text, ',' ORDER BY t) FROM t) || ' ' ||
    (SELECT commit_end_lsn::text FROM pgstream.apply_progress)";

impl Scene {
    /// A pair that has streamed and stopped.
    async fn new() -> Self {
        let pair = pair("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
        pair.follows("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
        let before = pair.there.text(STATE).await.unwrap();
        Self { pair, before }
    }

    async fn liar(&self, lie: Lie) -> (Liar, Running) {
        let source = &self.pair.source;
        let liar = Liar::start(source.port(), Lies::InStreams, lie).await.unwrap();
        let mut job = self.pair.job();
        job.source = server(&liar.url(&source.url("app"), source.port()));
        job.retry.max_retries = Some(1);
        let running = Running::start(job);
        (liar, running)
    }

    /// The error that the lie ends in; the target is as it was.
    async fn ends(&self, lie: Lie) -> String {
        let (liar, running) = self.liar(lie).await;
        let error = running.failure().await;
        assert!(liar.told() > 0, "it failed before it was lied to: {}", describe(&error));
        self.assert_unchanged().await;
        let code = miette_code(&error);
        format!("{code}: {}", describe(&error))
    }

    async fn assert_unchanged(&self) {
        assert_eq!(self.pair.there.text(STATE).await.unwrap(), self.before);
    }
}

fn miette_code(error: &Error) -> String {
    use miette::Diagnostic as _;
    error.code().map(|code| code.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn what_cannot_be_a_stream_ends_it_and_leaves_the_target_as_it_was() {
    let scene = Scene::new().await;
    let (begun, table) = (begin(FAR), relation(2, COLUMNS));
    let good = insert("3", "three");
    let with = |message: &[u8]| frames(&[&begun, &table, message]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("garbage", vec![0xA5; 5000], "packet 0xa5"),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "packet 0x48"),
        ("an absurd length", vec![b'd', 0xFF, 0xFF, 0xFF, 0xFF, b'w'], "length of 4294967295"),
        ("a length below the least", vec![b'd', 0, 0, 0, 3], "length of 3"),
        ("a promise of 1 GiB", [b"d\x3F\xFF\xFF\xFF".to_vec(), vec![0; 1000]].concat(), "closed"),
        ("a frame of no kind", packet(b'd', b"?"), "neither data nor keepalive"),
        ("a cut frame", packet(b'd', b"w\0\0"), "neither data nor keepalive"),
        ("an unknown message", frame(b"Zwhat"), "no message of protocol"),
        ("an empty message", frame(b""), "1 bytes are needed"),
        ("a row outside a transaction", frames(&[&table, &good]), "a row outside a transaction"),
        ("a commit outside a transaction", frame(&commit(FAR, FAR + 8)), "COMMIT outside a transaction"),
        ("a begin inside a transaction", frames(&[&begun, &begun]), "BEGIN inside a transaction"),
        ("a commit that ends before it", frames(&[&begun, &commit(FAR, 1)]), "COMMIT at 0/1 after"),
        ("a row of an unknown relation", with(&row(b'I', 7, b"N\0\0")), "relation 7, which was never described"),
        ("a truncate of an unknown relation", with(b"T\0\0\0\x01\0\0\0\0\x07"), "TRUNCATE of relation 7"),
        ("a truncate of more than there are", with(b"T\xFF\xFF\xFF\xFF\0\0\0\0\x07"), "bytes are needed"),
        ("too few cells", with(&row(b'I', TABLE, b"N\0\x01n")), "another column count"),
        ("more cells than bytes", with(&row(b'I', TABLE, b"N\xFF\xFFn")), "65535 bytes are needed"),
        ("a negative length", with(&row(b'I', TABLE, b"N\0\x02t\xFF\xFF\xFF\xFFxn")), "4294967295 bytes are needed"),
        ("a cut row", with(&good[..good.len() - 2]), "bytes are needed"),
        ("a row with a tail", with(&[&good[..], b"tail"].concat()), "4 bytes follow the last field"),
        ("a cell of no kind", with(&row(b'I', TABLE, b"N\0\x02xn")), "'x' does not say what follows"),
        ("a cut relation", frames(&[&begun, &relation(9, COLUMNS)]), "bytes are needed"),
        ("a name that is not UTF-8", frames(&[&begun, b"R\0\0\0\x07\xFF\0t\0d\0\0"]), "a name is not UTF-8"),
        ("a stream unasked", frame(b"S\0\0\0\x01\x01"), "which was not asked for"),
        ("a stream commit unasked", frame(&[b"c\0\0\0\x01\0", &[0; 24][..]].concat()), "which was not asked for"),
        ("a prepare unasked", frame(&[b"b", &[0; 28][..], b"gid\0"].concat()), "which was not asked for"),
        ("an end without a commit", with(&good), "closed"),
        ("a polite end without a commit", [with(&good), packet(b'c', b"")].concat(), "ended"),
        ("rows of SQL", [frame(&begun), packet(b'D', b"\0\0")].concat(), "packet 0x44 is not expected"),
    ];
    for (name, lie, said) in cases {
        let error = scene.ends(Lie::of(lie)).await;
        assert!(error.contains(said), "{name}: {error}");
        assert!(error.contains("::"), "{name} has no code: {error}");
    }
    // The truth is still there, and is followed.
    scene.pair.follows("INSERT INTO t VALUES (3, 'true')").await;
}

#[tokio::test]
async fn descriptions_that_do_not_fit_the_target_stop_the_stream() {
    let scene = Scene::new().await;
    let (begun, good) = (begin(FAR), insert("3", "three"));
    let done = commit(FAR, FAR + 8);
    let whole = |relation: &[u8]| frames(&[&begun, relation, &good, &done]);
    let nowhere = [b"R", &TABLE.to_be_bytes()[..], b"public\0nowhere\0d\0\x02", COLUMNS].concat();
    let many: Vec<u8> = (0..60_000_u32).flat_map(|_| *b"\0c\0\0\0\0\x17\xFF\xFF\xFF\xFF").collect();
    let other = b"\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF\0other\0\0\0\0\x19\xFF\xFF\xFF\xFF";
    for (name, lie, said) in [
        ("a table that is not there", whole(&nowhere), "nowhere"),
        ("a column that is not there", whole(&relation(2, other)), "other"),
        ("a row that is no number", frames(&[&begun, &relation(2, COLUMNS), &insert("x", "y"), &done]), "public"),
        ("a row that is there", frames(&[&begun, &relation(2, COLUMNS), &insert("1", "y"), &done]), "public"),
        ("60,000 columns", frames(&[&begun, &relation(60_000, &many), &done]), "closed"),
    ] {
        // A server that hung up would be heard before the target.
        let error =
            if said == "closed" { scene.moves(Lie::of(lie)).await } else { scene.ends(Lie::of(lie).staying()).await };
        assert!(error.contains(said), "{name}: {error}");
    }
}

impl Scene {
    /// As [`Self::ends`], but the position may move with transactions that hold nothing.
    async fn moves(&self, lie: Lie) -> String {
        let (_liar, running) = self.liar(lie).await;
        let error = running.failure().await;
        let rows = "SELECT string_agg(t::text, ',' ORDER BY t) FROM t";
        assert!(self.before.starts_with(&self.pair.there.text(rows).await.unwrap()));
        describe(&error)
    }
}

#[tokio::test]
async fn a_transaction_without_an_end_costs_no_memory_and_leaves_nothing() {
    let scene = Scene::new().await;
    let rows: Vec<u8> = (0..1000).flat_map(|n| frame(&insert(&n.to_string(), &"x".repeat(1000)))).collect();
    let before = resident();
    // A duplicate key is said a thousand times over, so the target takes none of it: 100 MB are read all the same.
    let lie = Lie::of(frames(&[&begin(FAR), &relation(2, COLUMNS)])).then(rows, 100);
    let error = scene.ends(lie).await;
    assert!(!error.is_empty());
    let grown = peak().saturating_sub(before);
    assert!(grown < 150 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn new_tables_without_end_are_bounded_by_what_was_said() {
    let scene = Scene::new().await;
    let before = resident();
    // The same relation under ever other names, each with a thousand columns: 8 MB.
    let columns: Vec<u8> = (0..1000_u32)
        .flat_map(|n| [b"\0".to_vec(), format!("c{n}\0").into_bytes(), b"\0\0\0\x17\xFF\xFF\xFF\xFF".to_vec()].concat())
        .collect();
    let described: Vec<u8> = (0..300_u32)
        .flat_map(|n| {
            let name = format!("public\0t{n}\0d");
            frame(&[b"R", &n.to_be_bytes()[..], name.as_bytes(), &1000_u16.to_be_bytes(), &columns].concat())
        })
        .collect();
    let lie = Lie::of(frame(&begin(FAR))).then(described, 2);
    let error = scene.ends(lie).await;
    assert!(error.contains("closed"), "{error}");
    let grown = peak().saturating_sub(before);
    assert!(grown < 250 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn a_server_that_drips_can_be_left() {
    let scene = Scene::new().await;
    let lie = Lie::of(frames(&[&begin(FAR), &relation(2, COLUMNS), &insert("3", "three")]))
        .dripping(Duration::from_millis(300))
        .staying();
    let (liar, running) = scene.liar(lie).await;
    let told = async {
        while liar.told() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("it is lied to");
    assert!(!running.is_finished());
    let stopped = tokio::time::timeout(Duration::from_secs(60), running.stop()).await.expect("it ends when told to");
    stopped.expect("leaving is no error");
    scene.assert_unchanged().await;
}

#[tokio::test]
async fn random_streams_end_in_errors() {
    use proptest::{
        prelude::*,
        strategy::ValueTree as _,
        test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
    };
    let scene = Scene::new().await;
    let message = prop_oneof![
        Just(begin(FAR)),
        Just(relation(2, COLUMNS)),
        Just(insert("3", "three")),
        Just(row(b'D', TABLE, b"K\0\x02t\0\0\0\x011n")),
        Just(row(b'U', TABLE, b"N\0\x02t\0\0\0\x011u")),
        Just(b"T\0\0\0\x01\0\xEE\x6B\x28\0".to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    // Never a commit: whatever came before it must then be rolled back.
    let stream = prop::collection::vec((message, damage), 1..40).prop_map(|messages| {
        let damaged = messages.into_iter().map(|(mut message, damage)| {
            if let Some((place, byte)) = damage.filter(|_| !message.is_empty()) {
                let place = place.index(message.len());
                message[place] = byte;
            }
            if message.first() == Some(&b'C') { frame(b"x") } else { frame(&message) }
        });
        damaged.flatten().collect::<Vec<u8>>()
    });
    let seed = pgstream_testkit::seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..20 {
        let lie = stream.new_tree(&mut runner).unwrap().current();
        let error = scene.ends(Lie::of(lie)).await;
        assert!(error.contains("::"), "{error}");
    }
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Resident memory in KiB.
fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that it ever was.
fn peak() -> u64 {
    status("VmHWM:")
}
