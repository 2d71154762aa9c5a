//! A source that answers as it should until rows are copied, and says anything after that: the copy fails, and no row
//! of it is kept.

use pgstream_testkit::{Liar, Lie, Lies, pair};

use crate::setup::{job, run, server};

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// What binary COPY begins with.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// One row `(7)`.
const ROW: &[u8] = b"\0\x01\0\0\0\x04\0\0\0\x07";
/// What it ends with.
const TRAILER: &[u8] = b"\xff\xff";

#[tokio::test]
async fn rows_that_are_none_are_not_kept() {
    let (source, target) = pair().await;
    source.client("app").await.batch("CREATE TABLE t (i int); INSERT INTO t VALUES (1)").await;
    let there = target.client("app").await;
    let data = |bytes: &[u8]| packet(b'd', bytes);
    let good = [data(HEADER), data(ROW)].concat();
    let end = [packet(b'c', b""), packet(b'C', b"COPY 1\0"), packet(b'Z', b"T")].concat();
    let fails = packet(b'E', b"SERROR\0VERROR\0CXX000\0Mno\0\0");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("garbage", vec![0x5A; 10_000]),
        ("an absurd length", [good.clone(), vec![b'd', 0x7F, 0xFF, 0xFF, 0xFF], vec![0; 100_000]].concat()),
        ("a length below the least", [good.clone(), vec![b'd', 0, 0, 0, 1]].concat()),
        ("rows and no end", good.clone()),
        (
            "rows and no trailer, then the command's end",
            [good.clone(), packet(b'C', b"COPY 1\0"), packet(b'Z', b"T")].concat(),
        ),
        ("an error in the middle", [good.clone(), fails, packet(b'Z', b"E")].concat()),
        ("no COPY at all", [data(b"hello"), end.clone()].concat()),
        ("a cut row", [data(HEADER), data(&ROW[..5]), end.clone()].concat()),
        ("too many columns", [data(HEADER), data(b"\x7F\xFF"), data(ROW), end.clone()].concat()),
        ("a negative length of a value", [data(HEADER), data(b"\0\x01\xFF\xFF\xFF\x00"), end.clone()].concat()),
        ("a value of 1 GiB that does not come", [data(HEADER), data(b"\0\x01\x3F\xFF\xFF\xFFx"), end.clone()].concat()),
        ("rows behind the trailer", [good.clone(), data(TRAILER), data(ROW), end].concat()),
    ];
    let before = resident();
    for (name, lie) in cases {
        let liar = Liar::start(source.port(), Lies::InCopies, Lie::of(lie)).await.unwrap();
        let mut job = job(&source, &target);
        job.source = server(&liar.url(&source.url("app"), source.port()));
        job.retry.max_retries = Some(1);
        let error = tokio::time::timeout(std::time::Duration::from_secs(60), run(job)).await;
        let error = error.unwrap_or_else(|_| panic!("{name} has no end")).expect_err(name);
        assert!(liar.told() > 0, "{name}: it failed before it was lied to: {error}");
        assert!(!error.to_string().is_empty());
        assert_eq!(there.text("SELECT count(*)::text FROM t").await.as_deref(), Some("0"), "{name}");
    }
    assert!(resident().saturating_sub(before) < 100 * 1024);
    // The truth arrives.
    run(job(&source, &target)).await.unwrap();
    assert_eq!(there.text("SELECT string_agg(i::text, ',') FROM t").await.as_deref(), Some("1"));
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
