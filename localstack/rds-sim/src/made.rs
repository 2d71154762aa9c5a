//! What a database is to be like.

use crate::server::Values;

/// A database instance that is to be made.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(crate) id: String,
    pub(crate) major: u32,
    pub(crate) group: Option<String>,
    pub(crate) values: Values,
    pub(crate) multi_az: bool,
    pub(crate) replica_of: Option<String>,
    pub(crate) free_storage: u64,
    pub(crate) grows_to_gib: Option<u32>,
}

/// What is free on a new disk of 20 GiB.
const FREE_STORAGE: u64 = 18 << 30;

impl Instance {
    /// A single instance of PostgreSQL 18 with its family's default group.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let (group, values) = (None, Values::new());
        Self {
            id: id.to_owned(),
            major: 18,
            group,
            values,
            multi_az: false,
            replica_of: None,
            free_storage: FREE_STORAGE,
            grows_to_gib: None,
        }
    }

    /// Another major version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// A group of this name, made now unless it is there.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// A value in that group, in force from the beginning.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a standby in another zone.
    #[must_use]
    pub fn multi_az(mut self) -> Self {
        self.multi_az = true;
        self
    }

    /// So many bytes are free on its disk of 20 GiB, says CloudWatch.
    #[must_use]
    pub fn free_storage(mut self, bytes: u64) -> Self {
        self.free_storage = bytes;
        self
    }

    /// Its disk grows by itself up to this.
    #[must_use]
    pub fn grows_to_gib(mut self, gib: u32) -> Self {
        self.grows_to_gib = Some(gib);
        self
    }

    /// A read replica of another instance; the server behind it is one of its own.
    #[must_use]
    pub fn replica_of(mut self, id: &str) -> Self {
        self.replica_of = Some(id.to_owned());
        self
    }
}

/// A cluster that is to be made.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) id: String,
    pub(crate) major: u32,
    pub(crate) aurora: bool,
    pub(crate) readers: usize,
    pub(crate) group: Option<String>,
    pub(crate) values: Values,
    pub(crate) engine_mode: &'static str,
    pub(crate) serverless_minimum: Option<f64>,
    /// Of the group of the writer's instance; the default one when there are none.
    pub(crate) writer_values: Values,
    pub(crate) free_storage: u64,
}

/// The group of a writer that has one of its own.
pub(crate) const WRITER_GROUP: &str = "writer-tuned";

impl Cluster {
    /// Aurora, with a writer and one reader.
    #[must_use]
    pub fn aurora(id: &str) -> Self {
        let (group, values) = (None, Values::new());
        let (engine_mode, serverless_minimum) = ("provisioned", None);
        Self {
            id: id.to_owned(),
            major: 16,
            aurora: true,
            readers: 1,
            group,
            values,
            engine_mode,
            serverless_minimum,
            writer_values: Values::new(),
            free_storage: FREE_STORAGE,
        }
    }

    pub(crate) fn engine(&self) -> &'static str {
        if self.aurora { "aurora-postgresql" } else { "postgres" }
    }

    /// A Multi-AZ DB cluster: a writer and two readers.
    #[must_use]
    pub fn multi_az(id: &str) -> Self {
        Self { aurora: false, readers: 2, ..Self::aurora(id) }
    }

    /// Another major version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// A cluster group of this name, made now unless it is there.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// A value in that group, in force from the beginning.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A value in an instance group of the writer, which wins over the cluster's.
    #[must_use]
    pub fn writer_parameter(mut self, name: &str, value: &str) -> Self {
        self.writer_values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Serverless v2 down to so many ACU.
    #[must_use]
    pub fn serverless_v2(mut self, minimum: f64) -> Self {
        self.serverless_minimum = Some(minimum);
        self
    }

    /// Serverless v1.
    #[must_use]
    pub fn serverless_v1(mut self) -> Self {
        self.engine_mode = "serverless";
        self
    }
}
