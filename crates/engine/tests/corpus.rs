//! The corpus of the fuzz targets, replayed through the same functions: what fuzzing has found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::{fs, path::Path};

/// The inputs of one target, the least first.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut inputs: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 3, "{}: {}", folder.display(), inputs.len());
    for path in inputs {
        let input = fs::read(&path).unwrap();
        // Shown when the target panics.
        println!("{}", path.display());
        target(&input);
        // Cut and damaged, as a start for what a fuzzer would do.
        for end in (0..input.len()).step_by(1 + input.len() / 16) {
            target(&input[..end]);
        }
        for place in (0..input.len()).step_by(1 + input.len() / 16) {
            let mut damaged = input.clone();
            damaged[place] ^= 0x81;
            target(&damaged);
        }
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), targets::$name);
        }
    )*};
}

replayed! { frames session pgoutput tuples stream copy config url snapshot_text schema_log }
