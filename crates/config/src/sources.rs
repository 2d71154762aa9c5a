//! Where settings come from, and what a command asks of them.
//!
//! ```text
//!  flags  >  environment  >  file (YAML or .env)  >  default
//! ```

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    build, dotenv,
    error::{Code, ConfigErrors, Notice, Place, Problem},
    keys,
    node::Node,
    pipeline::{Logging, Pipeline, SourceOnly},
    value::{Origin, Value},
    written::{self, Written},
    yaml,
};

/// Names the file when `-c` does not.
const CONFIG_VARIABLE: &str = "PGSTREAM_CONFIG";

/// No configuration is this long; a data file given by mistake is.
const FILE_BYTES: u64 = 1 << 20;

/// What the flags of a command say; they beat everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--source-url` of `run`, `--postgres-url` elsewhere.
    pub source_url: Option<SecretString>,
    /// `--target-url`.
    pub target_url: Option<SecretString>,
    /// `--replication-slot`.
    pub replication_slot: Option<String>,
    /// `--snapshot-tables` of `run`: also turns the copy on.
    pub snapshot_tables: Vec<String>,
    /// `--tables` of `snapshot`.
    pub tables: Vec<String>,
    /// `--reset`: `clean_target_db`.
    pub reset: bool,
    /// `--data-only`: rows into tables that exist.
    pub data_only: bool,
    /// `--dump-file`.
    pub dump_file: Option<PathBuf>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--no-color`.
    pub no_color: bool,
}

/// The command that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `run`: the mode is as configured.
    Run,
    /// `snapshot`: the copy only, whatever the configured mode.
    Snapshot,
}

/// Settings and what to tell the user about them.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// What was asked for.
    pub settings: T,
    /// How to log.
    pub logging: Logging,
    /// What was accepted, but means less or something else than it says; sorted by place.
    pub notices: Vec<Notice>,
}

/// The raw material: a file, the environment and flags. Not `Debug`: it holds passwords.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<(Arc<str>, String)>,
    environment: BTreeMap<String, String>,
    overrides: Overrides,
}

impl Sources {
    /// Reads the file, which `PGSTREAM_CONFIG` names when `path` does not, and the environment of the process.
    ///
    /// # Errors
    /// When the file cannot be read or is no text.
    pub fn read(path: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigErrors> {
        let environment: BTreeMap<String, String> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = match path.map(Path::to_owned).or(named) {
            None => None,
            Some(path) => Some(read_text(&path).map_err(ConfigErrors::one)?),
        };
        Ok(Self { file, environment, overrides })
    }

    /// The same from memory.
    #[must_use]
    pub fn new(file: Option<(&str, &str)>, environment: BTreeMap<String, String>, overrides: Overrides) -> Self {
        Self { file: file.map(|(name, text)| (name.into(), text.to_owned())), environment, overrides }
    }

    /// Everything that a pipeline needs.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(&self, command: Command) -> Result<Loaded<Pipeline>, ConfigErrors> {
        let mut written = self.collect(command);
        written.check_support(&[]);
        let pipeline = build::pipeline(&mut written, command, &self.overrides);
        finish(written, pipeline)
    }

    /// What commands need that only look at or prepare the servers: the source, and the target if there is one.
    ///
    /// # Errors
    /// Everything that is wrong, at once; a target or a mode may be missing.
    pub fn load_source(&self) -> Result<Loaded<SourceOnly>, ConfigErrors> {
        let mut written = self.collect(Command::Snapshot);
        written.check_support(&["source.", "modifiers.filter"]);
        let source = build::source_only(&mut written);
        finish(written, source)
    }

    fn collect(&self, command: Command) -> Written {
        let mut written = Written::default();
        if let Some((name, text)) = &self.file {
            written.file = Some(Arc::clone(name));
            self.collect_file(name, text, &mut written);
        }
        for (name, value) in &self.environment {
            written.variable_of_process(name, value);
        }
        self.collect_flags(command, &mut written);
        written
    }

    fn collect_file(&self, name: &Arc<str>, text: &str, written: &mut Written) {
        let lookup = |name: &str| self.environment.get(name).cloned();
        if dotenv::is_dotenv(name, text) {
            for (variable, node) in dotenv::parse(name, text, &lookup, &mut written.problems) {
                written.variable_of_file(&variable, &node);
            }
        } else if let Some(root) = yaml::parse(name, text, &lookup, &mut written.problems) {
            written::read_file(&root, written);
        }
    }

    fn collect_flags(&self, command: Command, written: &mut Written) {
        let flags = &self.overrides;
        let source_url = if command == Command::Run { "--source-url" } else { "--postgres-url" };
        let secret = |url: &Option<SecretString>| url.as_ref().map(|url| url.expose_secret().to_owned());
        let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
        let dump = "source.postgres.snapshot.schema.pgdump_pgrestore.dump_file";
        let texts = [
            (source_url, "source.postgres.url", secret(&flags.source_url)),
            ("--target-url", "target.postgres.url", secret(&flags.target_url)),
            (
                "--replication-slot",
                "source.postgres.replication.replication_slot",
                flags.replication_slot.clone().filter(|slot| !slot.is_empty()),
            ),
            ("--snapshot-tables", "source.postgres.snapshot.tables", list(&flags.snapshot_tables)),
            ("--tables", "source.postgres.snapshot.tables", list(&flags.tables)),
            ("--log-level", "logging.level", flags.log_level.clone()),
            ("--log-format", "logging.format.type", flags.log_format.clone()),
        ];
        for (flag, path, text) in texts {
            if let (Some(text), Some(key)) = (text, keys::find(path)) {
                written.set(key, &Node::scalar(Place::Flag(flag), text), Origin::File);
            }
        }
        if let Some(file) = &flags.dump_file {
            written.put(dump, &Place::Flag("--dump-file"), Value::Path(file.clone()));
        }
        let clean = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";
        for (flag, path, given, value) in [
            ("--reset", clean, flags.reset, Value::Flag(true)),
            ("--data-only", "source.postgres.snapshot.mode", flags.data_only, Value::Word("data")),
            ("--no-color", "logging.format.no_color", flags.no_color, Value::Flag(true)),
        ] {
            if given {
                written.put(path, &Place::Flag(flag), value);
            }
        }
    }
}

/// Settings when nothing is wrong.
fn finish<T>(written: Written, settings: Option<T>) -> Result<Loaded<T>, ConfigErrors> {
    let logging = build::logging(&written);
    let mut notices = written.notices;
    notices.sort();
    notices.dedup();
    match (ConfigErrors::from_problems(written.problems), settings) {
        (Some(errors), _) => Err(errors),
        (None, Some(settings)) => Ok(Loaded { settings, logging, notices }),
        (None, None) => Err(ConfigErrors::one(Problem::new(
            &Place::Nowhere,
            Code::Missing,
            "the settings are incomplete",
            "give a source and a target",
        ))),
    }
}

fn read_text(path: &Path) -> Result<(Arc<str>, String), Problem> {
    let name: Arc<str> = path.display().to_string().into();
    let problem = |what: String, fix: &str| Problem::new(&Place::File(Arc::clone(&name)), Code::Unreadable, what, fix);
    let open = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open(path).map_err(|error| {
        problem(format!("cannot read the configuration: {error}"), "give the path of a YAML or .env file with -c")
    })?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(problem("the file is longer than 1 MiB".to_owned(), "give a YAML or .env file"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(problem("the file is not UTF-8 text".to_owned(), "save it as UTF-8")),
    }
}
