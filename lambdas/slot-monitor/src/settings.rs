//! The environment of the function.

use pgstream_monitor::valve::{NotALadder, Valve};

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
    /// `PGSTREAM_VALVE_NOTIFY_BELOW`, `…_PAUSE_BELOW`, `…_DROP_BELOW`, bytes
    pub(crate) valve: Option<Valve>,
    /// `PGSTREAM_VALVE_SECRET`: a login of the source that may drop the slot
    pub(crate) valve_secret: Option<String>,
}

/// A variable cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{name} is not set: it is {what}")]
    Missing { name: &'static str, what: &'static str },
    #[error("{name} is `{value}`, which is no number of bytes")]
    NotBytes { name: &'static str, value: String },
    #[error(transparent)]
    NotALadder(#[from] NotALadder),
}

impl Settings {
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Unusable> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str, what: &'static str| given(name).ok_or(Unusable::Missing { name, what });
        let bytes = |name: &'static str| match given(name).map(|text| (text.parse(), text)) {
            None | Some((Ok(0_u64), _)) => Ok(None),
            Some((Ok(bytes), _)) => Ok(Some(bytes as f64)),
            Some((Err(_), value)) => Err(Unusable::NotBytes { name, value }),
        };
        let valve = Valve {
            notify_below: bytes("PGSTREAM_VALVE_NOTIFY_BELOW")?,
            pause_below: bytes("PGSTREAM_VALVE_PAUSE_BELOW")?,
            drop_below: bytes("PGSTREAM_VALVE_DROP_BELOW")?,
        };
        let valve = valve.checked()?;
        if let Some(valve) = valve {
            needed("PGSTREAM_RDS_INSTANCE", "the instance whose free storage the safety valve acts on")?;
            if valve.pause_below.is_some() {
                needed(
                    "PGSTREAM_TARGET_SECRET",
                    "the login of the target, on which the safety valve marks what it does",
                )?;
            }
            if valve.drop_below.is_some() {
                needed("PGSTREAM_VALVE_SECRET", "the login of the source with which the safety valve drops the slot")?;
            }
        }
        Ok(Self {
            valve,
            valve_secret: given("PGSTREAM_VALVE_SECRET"),
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
        let given = |name: &str| name != "PGSTREAM_SLOT" && !name.starts_with("PGSTREAM_VALVE");
        let read = |name: &str| given(name).then(|| format!("{name} value"));
        let missing = Settings::from_environment(read).unwrap_err();
        assert_eq!(missing.to_string(), "PGSTREAM_SLOT is not set: it is the name of the replication slot");
    }

    #[test]
    fn a_safety_valve_needs_what_it_acts_with() {
        let read = |name: &str| match name {
            "PGSTREAM_VALVE_DROP_BELOW" => Some("5000000000".to_owned()),
            "PGSTREAM_VALVE_NOTIFY_BELOW" => Some("0".to_owned()),
            "PGSTREAM_VALVE_PAUSE_BELOW" | "PGSTREAM_VALVE_SECRET" => None,
            _ => Some("x".to_owned()),
        };
        let missing = Settings::from_environment(read).unwrap_err().to_string();
        assert!(missing.starts_with("PGSTREAM_VALVE_SECRET is not set"), "{missing}");
        let settings =
            Settings::from_environment(|name| read(name).or(Some("y".to_owned()).filter(|_| name.ends_with("SECRET"))));
        assert_eq!(settings.unwrap().valve.unwrap().drop_below, Some(5e9));
        let wrong = |name: &str| Some(if name.ends_with("BELOW") { "much" } else { "x" }.to_owned());
        let wrong = Settings::from_environment(wrong).unwrap_err().to_string();
        assert_eq!(wrong, "PGSTREAM_VALVE_NOTIFY_BELOW is `much`, which is no number of bytes");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let empty = |name: &str| name == "PGSTREAM_RDS_INSTANCE" || name.starts_with("PGSTREAM_VALVE");
        let read = |name: &str| Some(if empty(name) { String::new() } else { "x".to_owned() });
        let settings = Settings::from_environment(read).unwrap();
        assert_eq!((settings.instance, settings.target_secret), (None, Some("x".to_owned())));
    }
}
