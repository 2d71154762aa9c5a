//! The environment of the function.

/// What the template sets.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `PGSTREAM_SLOT`, `PGSTREAM_DATABASE`
    pub(crate) watched: pgstream_monitor::Settings,
    /// `PGSTREAM_MONITOR_SECRET`
    pub(crate) source_secret: String,
    /// `PGSTREAM_TARGET_SECRET`: a login that may read `pgstream.apply_progress` there
    pub(crate) target_secret: Option<String>,
    /// `PGSTREAM_RDS_INSTANCE`: whose free storage
    pub(crate) instance: Option<String>,
}

/// A variable that must be there is not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not set: it is {what}")]
pub(crate) struct Missing {
    name: &'static str,
    what: &'static str,
}

impl Settings {
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str, what: &'static str| given(name).ok_or(Missing { name, what });
        Ok(Self {
            source_secret: needed("PGSTREAM_MONITOR_SECRET", "the name or ARN of the secret of pgstreammonitor")?,
            watched: pgstream_monitor::Settings {
                slot: needed("PGSTREAM_SLOT", "the name of the replication slot")?,
                database: needed("PGSTREAM_DATABASE", "the name of the source database")?,
            },
            target_secret: given("PGSTREAM_TARGET_SECRET"),
            instance: given("PGSTREAM_RDS_INSTANCE"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let read = |name: &str| (name != "PGSTREAM_SLOT").then(|| format!("{name} value"));
        let missing = Settings::from_environment(read).unwrap_err();
        assert_eq!(missing.to_string(), "PGSTREAM_SLOT is not set: it is the name of the replication slot");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let read = |name: &str| Some(if name == "PGSTREAM_RDS_INSTANCE" { String::new() } else { "x".to_owned() });
        let settings = Settings::from_environment(read).unwrap();
        assert_eq!((settings.instance, settings.target_secret), (None, Some("x".to_owned())));
    }
}
