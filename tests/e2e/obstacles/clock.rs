//! A clock that is wrong: that of this program alone, so that it needs no privilege and disturbs nobody.

use std::process::Command;

use super::{found, prepared};

#[tokio::test]
async fn a_clock_that_is_wrong_is_named_and_a_right_one_is_not() {
    let (source, target) = pgstream_testkit::pair().await;
    let mut pipeline = prepared(source, target).await;
    let (code, library) = (pipeline.file("clock.c"), pipeline.file("clock.so"));
    std::fs::write(&code, include_str!("clock.c")).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&code).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    let ahead = |seconds: &str| {
        let library = library.to_str().unwrap().to_owned();
        vec![("LD_PRELOAD".to_owned(), library), ("CLOCK_AHEAD".to_owned(), seconds.to_owned())]
    };
    for (seconds, named) in [("600", true), ("-600", true), ("30", false), ("0", false)] {
        pipeline.environment(ahead(seconds));
        let done = pipeline.pgstream(&["check", "--resources", "--json"]).await.ok();
        assert_eq!(found(&done).contains(&"resources.clock_skew".to_owned()), named, "{seconds}: {done:?}");
        assert_eq!(done.out.contains("timedatectl"), named, "{seconds}: {done:?}");
    }
}
