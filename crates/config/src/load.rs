//! From everything that was written to a [`Pipeline`], or to every reason why not.
//!
//! ```text
//!  flags  >  environment  >  file (YAML or .env)  >  default
//! ```

use std::{fs, io::Read as _, path::Path, sync::Arc};

use crate::{
    build, dotenv,
    error::{Code, ConfigErrors, Notice, Place, Problem},
    keys,
    node::Node,
    pipeline::{Mode, Pipeline, Presentation},
    value::{Origin, Value},
    written::{self, Written},
    yaml,
};

/// No configuration is this long; a data file given by mistake is.
const FILE_BYTES: u64 = 1 << 20;

/// What a configuration that is no file is called in messages.
const INLINE: &str = "PGSTREAM_CONFIG";

const DUMP_FILE: &str = "source.postgres.snapshot.schema.pgdump_pgrestore.dump_file";
const CLEAN: &str = "source.postgres.snapshot.schema.pgdump_pgrestore.clean_target_db";

/// Looks up environment variables; tests give their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the command line said; `None` or empty means nothing. Not `Debug`: a URL may hold a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--source-url` or `--postgres-url`.
    pub source_url: Option<String>,
    /// `--target-url`.
    pub target_url: Option<String>,
    /// `--replication-slot`.
    pub replication_slot: Option<String>,
    /// `--snapshot-tables` or `--tables`.
    pub snapshot_tables: Vec<String>,
    /// `--dump-file`.
    pub dump_file: Option<String>,
    /// `--reset`.
    pub reset: bool,
    /// `--data-only`.
    pub data_only: bool,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--no-color`.
    pub no_color: bool,
    /// The mode of a command for which none is written, e.g. of `snapshot`.
    pub default_mode: Option<Mode>,
}

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A source; a target may be there.
    Source,
    /// Both.
    SourceAndTarget,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means. Without a target where only a source was needed.
    pub pipeline: Pipeline,
    /// What was accepted, but means less or something else than it says; sorted by place.
    pub notices: Vec<Notice>,
}

/// Whether a server can be reached by what a URL says; if not, what is wrong with it, without its value, and the fix.
pub type UrlCheck<'a> = &'a dyn Fn(&str) -> Result<(), (String, String)>;

/// Reads file, environment and flags; flags win over the environment, the environment over the file.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    overrides: &Overrides,
    needs: Needs,
    environment: Environment<'_>,
    check_url: UrlCheck<'_>,
) -> Result<Loaded, ConfigErrors> {
    settle(collect(file, overrides, environment), overrides, needs, check_url)
}

/// [`load`], of a file that is in memory: for tests that feed it what no editor writes.
#[doc(hidden)]
pub fn load_text(
    name: &str,
    text: &str,
    overrides: &Overrides,
    needs: Needs,
    environment: Environment<'_>,
    check_url: UrlCheck<'_>,
) -> Result<Loaded, ConfigErrors> {
    let name: Arc<str> = name.into();
    let mut written = Written::default();
    written.file = Some(Arc::clone(&name));
    take_file(&mut written, &name, text, environment);
    written.variables_of_process(environment);
    take_flags(&mut written, overrides);
    settle(written, overrides, needs, check_url)
}

fn settle(
    mut written: Written,
    overrides: &Overrides,
    needs: Needs,
    check_url: UrlCheck<'_>,
) -> Result<Loaded, ConfigErrors> {
    written.check_urls(check_url, needs);
    written.check_support(match needs {
        Needs::Source => &["source.", "modifiers.filter"],
        Needs::SourceAndTarget => &[],
    });
    let pipeline = build::pipeline(&mut written, overrides, needs);
    let mut notices = written.notices;
    notices.sort();
    notices.dedup();
    match (ConfigErrors::from_problems(written.problems), pipeline) {
        (Some(errors), _) => Err(errors),
        (None, Some(pipeline)) => Ok(Loaded { pipeline, notices }),
        (None, None) => {
            let fix = "give a source and a target";
            Err(ConfigErrors::one(Problem::new(&Place::Nowhere, Code::Missing, "the settings are incomplete", fix)))
        }
    }
}

/// How to log and draw, as far as the same sources tell; what is wrong with them is for [`load`] to say.
#[must_use]
pub fn presentation(file: Option<&Path>, overrides: &Overrides, environment: Environment<'_>) -> Presentation {
    let written = collect(file, overrides, environment);
    Presentation {
        level: written.word("logging.level"),
        json: written.word("logging.format.type") == "json",
        no_color: written.flag("logging.format.no_color"),
        quiet: written.flag("source.postgres.snapshot.disable_progress_tracking"),
    }
}

fn collect(file: Option<&Path>, overrides: &Overrides, environment: Environment<'_>) -> Written {
    let mut written = Written::default();
    if let Some(path) = file {
        let inline = inline(path);
        let name: Arc<str> = inline.map_or_else(|| path.display().to_string(), |_| INLINE.to_owned()).into();
        written.file = Some(Arc::clone(&name));
        match inline.map_or_else(|| read_text(path, &name), |text| Ok(text.to_owned())) {
            Ok(text) => take_file(&mut written, &name, &text, environment),
            Err(problem) => written.problems.push(problem),
        }
    }
    written.variables_of_process(environment);
    take_flags(&mut written, overrides);
    written
}

/// The configuration itself in place of a file's name: containers are given variables, not files.
fn inline(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.contains('\n') || text.starts_with('{'))
}

fn take_file(written: &mut Written, name: &Arc<str>, text: &str, environment: Environment<'_>) {
    if dotenv::is_dotenv(name, text) {
        for (variable, node) in dotenv::parse(name, text, environment, &mut written.problems) {
            written.variable_of_file(&variable, &node);
        }
    } else if let Some(root) = yaml::parse(name, text, environment, &mut written.problems) {
        written::read_file(&root, written);
    }
}

fn take_flags(written: &mut Written, flags: &Overrides) {
    let tables = (!flags.snapshot_tables.is_empty()).then(|| flags.snapshot_tables.join(","));
    let tables_flag = if flags.default_mode.is_some() { "--tables" } else { "--snapshot-tables" };
    for (flag, path, text) in [
        ("--source-url", "source.postgres.url", flags.source_url.as_ref()),
        ("--target-url", "target.postgres.url", flags.target_url.as_ref()),
        ("--replication-slot", "source.postgres.replication.replication_slot", flags.replication_slot.as_ref()),
        (tables_flag, "source.postgres.snapshot.tables", tables.as_ref()),
        ("--dump-file", DUMP_FILE, flags.dump_file.as_ref()),
        ("--log-level", "logging.level", flags.log_level.as_ref()),
        ("--log-format", "logging.format.type", flags.log_format.as_ref()),
    ] {
        if let (Some(text), Some(key)) = (text, keys::find(path)) {
            written.set(key, &Node::scalar(Place::Flag(flag), text), Origin::File);
        }
    }
    for (flag, path, given, value) in [
        ("--reset", CLEAN, flags.reset, Value::Flag(true)),
        ("--data-only", "source.postgres.snapshot.mode", flags.data_only, Value::Word("data")),
        ("--no-color", "logging.format.no_color", flags.no_color, Value::Flag(true)),
    ] {
        if given {
            written.put(path, &Place::Flag(flag), value);
        }
    }
}

fn read_text(path: &Path, name: &Arc<str>) -> Result<String, Problem> {
    let problem = |what: String, fix: &str| Problem::new(&Place::File(Arc::clone(name)), Code::Unreadable, what, fix);
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes =
        open().map_err(|error| problem(format!("cannot be read: {error}"), "check the path given to -c/--config"))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(problem("the file is longer than 1 MiB".to_owned(), "give a YAML or .env file"));
    }
    String::from_utf8(bytes).map_err(|_| problem("the file is not UTF-8 text".to_owned(), "save it as UTF-8"))
}
