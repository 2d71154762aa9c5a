//! What is wrong with the command line or the configuration ends with exit code 2.

use crate::replicator::pgstream;

#[tokio::test]
async fn mistakes_on_the_command_line() {
    for arguments in [
        &["prepare"][..],
        &["init", "--slot-only", "--migrations-only"],
        &["destroy", "--json"],
        &["init", "--log-format", "xml"],
        &["init"],
        &["init", "--postgres-url", "mysql://u@h/db"],
        &["init", "--postgres-url", "postgresql://u@127.0.0.1:1/app", "--replication-slot", "Not A Slot"],
        &["run", "--source-url", "postgresql://u@127.0.0.1:1/app"],
    ] {
        let ended = pgstream(arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
        assert!(ended.err.contains("error"), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_named_with_the_nearest_right_one() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), "source:\n  postgres:\n    urll: postgresql://u:geheim@h/db\n    mode: replication\n")
        .unwrap();
    let ended = pgstream(&["init", "-c", file.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("urll") && ended.err.contains("url"), "{ended:?}");
    assert!(!ended.err.contains("geheim"), "a password was printed");
}

#[tokio::test]
async fn help_version_and_completions_need_no_configuration() {
    let version = pgstream(&["version"]).await;
    assert_eq!(
        (version.code, version.out.as_str()),
        (Some(0), concat!("pgstream-aws ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = pgstream(&["--help"]).await;
    for command in ["init", "destroy", "status", "snapshot", "run"] {
        assert!(help.out.contains(&format!("  {command} ")), "{help:?}");
    }
    assert!(help.out.contains("Exit codes: 0 done; 1 findings or failure; 2 usage or configuration."), "{help:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = pgstream(&["completions", shell]).await;
        assert_eq!(script.code, Some(0), "{script:?}");
        assert!(script.out.contains("pgstream-aws"), "{shell}");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_failure() {
    let mut command = std::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_pgstream-aws");
    command.args(["-c", &format!("{{ '{binary}' version; echo $? >&2; }} | true")]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "0\n");
}
