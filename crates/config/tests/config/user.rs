//! Somebody who writes files, variables and flags.

use std::collections::HashMap;

use pgstream_config::{ConfigErrors, Loaded, Needs, Overrides, load, pipeline::Pipeline};
use tempfile::TempDir;

/// What was written.
pub struct User {
    directory: TempDir,
    file: Option<String>,
    environment: HashMap<String, String>,
    /// The flags.
    pub flags: Overrides,
}

/// Nothing but flags.
pub fn flags(flags: Overrides) -> User {
    User { directory: TempDir::new().unwrap(), file: None, environment: HashMap::new(), flags }
}

/// A file.
pub fn file(name: &str, text: &str) -> User {
    let user = flags(Overrides::default());
    std::fs::write(user.directory.path().join(name), text).unwrap();
    User { file: Some(name.to_owned()), ..user }
}

/// A YAML file.
pub fn yaml(text: &str) -> User {
    file("f.yaml", text)
}

/// As a server would be asked for: one that refuses ports of five nines.
fn check(url: &str) -> Result<(), (String, String)> {
    match url.contains(":99999") {
        true => Err(("a port is not a number from 1 to 65535".to_owned(), "write the port".to_owned())),
        false => Ok(()),
    }
}

impl User {
    /// And these variables.
    pub fn env(mut self, variables: &[(&str, &str)]) -> Self {
        self.environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// And these flags.
    pub fn flags(mut self, flags: Overrides) -> Self {
        self.flags = flags;
        self
    }

    pub fn load(&self, needs: Needs) -> Result<Loaded, ConfigErrors> {
        let path = self.file.as_ref().map(|name| self.directory.path().join(name));
        load(path.as_deref(), &self.flags, needs, &|name| self.environment.get(name).cloned(), &check)
    }

    #[track_caller]
    pub fn loads(&self) -> Loaded {
        self.load(Needs::SourceAndTarget).unwrap_or_else(|errors| panic!("{}", errors.report()))
    }

    #[track_caller]
    pub fn pipeline(&self) -> Pipeline {
        self.loads().pipeline
    }

    /// The notices, with the file by its name.
    #[track_caller]
    pub fn notices(&self) -> Vec<String> {
        self.loads().notices.iter().map(|notice| self.plain(&notice.to_string())).collect()
    }

    /// The report on what is wrong, with the file by its name.
    #[track_caller]
    pub fn report(&self) -> String {
        match self.load(Needs::SourceAndTarget) {
            Err(errors) => self.plain(&errors.report()),
            Ok(loaded) => panic!("accepted: {loaded:?}"),
        }
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}
