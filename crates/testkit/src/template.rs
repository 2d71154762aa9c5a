//! An initialised data directory per server version, made once and copied for each cluster.
//!
//! `initdb` takes two to four seconds, a copy a twentieth of one.

use std::{
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Binaries, Error, binaries::cache_dir, error::io};

/// The superuser of every cluster, and its password.
pub const USER: &str = "postgres";
/// See [`USER`].
pub const PASSWORD: &str = "testkit";

/// Raised when the way of initialising changes, so that older templates are not used.
const REVISION: u32 = 1;

/// `nobody`: PostgreSQL refuses to run as root.
const UNPRIVILEGED: u32 = 65534;

/// The user that servers run as, when it is not the one that runs the test.
pub(crate) fn server_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(UNPRIVILEGED)
}

/// Makes a command run as the server user.
pub(crate) fn as_server_user(command: &mut Command) -> &mut Command {
    if let Some(user) = server_user() {
        command.uid(user).gid(user);
    }
    command
}

/// Gives a file or directory to the server user.
pub(crate) fn give_to_server(path: &Path) -> Result<(), Error> {
    match server_user() {
        Some(user) => chown(path, Some(user), Some(user)).map_err(io(format!("chown {}", path.display()))),
        None => Ok(()),
    }
}

/// The template of a version, made now if there is none. Blocks for seconds then.
pub(crate) fn template(binaries: &Binaries) -> Result<PathBuf, Error> {
    let templates = cache_dir().join("templates");
    fs::create_dir_all(&templates).map_err(io(format!("creating {}", templates.display())))?;
    let name = format!("{}-r{REVISION}", binaries.version());
    let template = templates.join(&name);
    if template.is_dir() {
        return Ok(template);
    }
    // Test processes start together: one initialises, the others wait for it.
    let lock = templates.join(format!("{name}.lock"));
    let lock = File::create(&lock).map_err(io(format!("creating {}", lock.display())))?;
    lock.lock().map_err(io("locking the template"))?;
    if template.is_dir() {
        return Ok(template);
    }
    let scratch = tempfile::Builder::new()
        .prefix(".initdb-")
        .tempdir_in(&templates)
        .map_err(io(format!("creating a directory in {}", templates.display())))?;
    give_to_server(scratch.path())?;
    let data = scratch.path().join("data");
    initdb(binaries, scratch.path(), &data)?;
    fs::rename(&data, &template).map_err(io(format!("renaming to {}", template.display())))?;
    Ok(template)
}

fn initdb(binaries: &Binaries, scratch: &Path, data: &Path) -> Result<(), Error> {
    let password = scratch.join("password");
    fs::write(&password, PASSWORD).map_err(io(format!("writing {}", password.display())))?;
    give_to_server(&password)?;
    let mut command = Command::new(binaries.program("initdb"));
    command
        .args(["--username", USER, "--encoding", "UTF8", "--locale", "C", "--no-sync", "--auth", "scram-sha-256"])
        .arg("--pwfile")
        .arg(&password)
        .arg("--pgdata")
        .arg(data)
        .current_dir(scratch);
    run(as_server_user(&mut command), &format!("initdb of PostgreSQL {}", binaries.major()))
}

/// Runs a program to its end; what it printed is in the error.
fn run(command: &mut Command, doing: &str) -> Result<(), Error> {
    run_for_output(command, doing).map(drop)
}

/// Runs a program to its end and returns its standard output.
pub(crate) fn run_for_output(command: &mut Command, doing: &str) -> Result<String, Error> {
    let output = command.output().map_err(io(doing))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::Program { doing: doing.to_owned(), output: text(&[output.stdout, output.stderr].concat()) })
}

/// Copies a data directory; the copy belongs to the server user.
pub(crate) fn copy_data(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |path: &Path| io(format!("copying {}", path.display()));
    fs::create_dir(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(failed(&source))?.is_dir() {
            copy_data(&source, &copy)?;
        } else {
            // A reflink where the file system has them.
            fs::copy(&source, &copy).map_err(failed(&source))?;
            give_to_server(&copy)?;
        }
    }
    let permissions = fs::metadata(from).map_err(failed(from))?.permissions();
    fs::set_permissions(to, permissions).map_err(failed(to))?;
    give_to_server(to)
}
