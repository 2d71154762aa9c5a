//! No password is ever shown.

use pgstream_config::{Needs, Overrides};
use proptest::prelude::*;

use crate::user::{User, file, flags, yaml};

const SECRET: &str = "CANARY";

/// Nothing that is shown of a configuration with a password in it may hold that password.
fn shows_no_secret(user: &User) -> Result<(), TestCaseError> {
    for needs in [Needs::SourceAndTarget, Needs::Source] {
        let shown = match user.load(needs) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(errors) => format!("{errors} {errors:?} {}", errors.report()),
        };
        prop_assert!(!shown.contains(SECRET), "{shown}");
    }
    Ok(())
}

const URL_VARIABLES: [&str; 5] = [
    "PGSTREAM_POSTGRES_LISTENER_URL",
    "PGSTREAM_POSTGRES_WRITER_TARGET_URL",
    "PGSTREAM_POSTGRES_SNAPSHOT_STORE_URL",
    "PGSTREAM_POSTGRES_WRITER_SCHEMALOG_STORE_URL",
    "PGSTREAM_INJECTOR_STORE_POSTGRES_URL",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A password in a URL that is cut, quoted and bent in every way, under every key, right or wrong.
    #[test]
    fn no_url_is_ever_shown(
        scheme in "(postgresql://|postgres://|postgres:/|mysql://|secretsmanager://|)",
        user in "[a-z:'\"]{0,3}",
        around in "[ :#'\"{}\\[\\],&*!|>%@$\n\\\\-]{0,3}",
        quote in "['\"]?",
        key in 0usize..9,
    ) {
        let url = format!("{quote}{scheme}{user}:{around}{SECRET}{around}@host:5432/db{quote}");
        let text = match key {
            0 => format!("source:\n  postgres:\n    url: {url}\ntarget: {{stdout: }}\n"),
            1 => format!("target:\n  postgres:\n    url: {url}\n"),
            2 => format!("source:\n  postgres:\n    mode: {url}\n"),
            3 => format!("source:\n  postgres: {url}\n"),
            4 => format!("source:\n  postgres:\n    snapshot:\n      tables:\n        - {url}\n"),
            5 => format!("source:\n  postgres:\n    snapshot: {{tables: [{url}], recorder: {{postgres_url: {url}}}}}\n"),
            6 => format!("modifiers:\n  injector:\n    source_url: {url}\n"),
            7 => format!("target:\n  kafka:\n    url: {url}\n  webhooks: {url}\n"),
            _ => format!("{url}: 1\n"),
        };
        shows_no_secret(&file("f.yaml", &text))?;
        let lines = format!("PGSTREAM_POSTGRES_LISTENER_URL={url}\nPGSTREAM_POSTGRES_SNAPSHOT_MODE={url}\n{url}\n");
        shows_no_secret(&file("f.env", &lines))?;
        let environment: Vec<_> = URL_VARIABLES.iter().map(|name| (*name, url.as_str())).collect();
        shows_no_secret(&flags(Overrides::default()).env(&environment))?;
        let overrides = Overrides {
            source_url: Some(url.clone()),
            target_url: Some(url.clone()),
            snapshot_tables: vec![url.clone()],
            replication_slot: Some(url.clone()),
            ..Overrides::default()
        };
        shows_no_secret(&flags(overrides))?;
        let expanded = "source: {postgres: {url: '${X}', mode: '${X}', snapshot: {tables: ['${X}'], data: {batch_bytes: '${X}'}}}}";
        shows_no_secret(&yaml(expanded).env(&[("X", &url)]))?;
    }

    /// A bare password from a variable is not shown either, whatever key it is used for.
    #[test]
    fn no_expanded_value_is_ever_shown(before in "[a-z ]{0,2}", key in 0usize..5) {
        let key = ["mode: ", "snapshot: ", "snapshot: {tables: ", "retry_policy: {disable_retries: ", "replication: {replication_slot: "][key];
        let close = if key.contains('{') { "}" } else { "" };
        let text = format!("source:\n  postgres:\n    {key}'{before}${{X}}'{close}\n");
        shows_no_secret(&file("f.yaml", &text).env(&[("X", "A-CANARY!*")]))?;
    }

    #[test]
    fn nothing_panics(
        text in "(source|target|postgres|url|mode|snapshot|tables|modifiers|filter|include_tables|[:\\[\\]{},&*\"' \n\t#$-]|\\PC){0,60}",
        value in "\\PC{0,30}",
    ) {
        for name in ["f.yaml", "f.env", "f"] {
            let environment =
                [("PGSTREAM_FILTER_INCLUDE_TABLES", value.as_str()), ("PGSTREAM_HEALTH_CHECK_ADDRESS", value.as_str())];
            let user = file(name, &text).env(&environment);
            drop(user.load(Needs::SourceAndTarget).map_err(|errors| errors.report()));
            drop(user.load(Needs::Source).map_err(|errors| errors.report()));
        }
    }
}
