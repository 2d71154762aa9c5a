//! A port that no other cluster takes, also while this one is down.

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
};

use rand::Rng;

use crate::{Error, binaries::cache_dir, error::io};

/// Below the ports that systems give to outgoing connections: one of those could take the port of a server that is
/// down, or connect to itself.
const RANGE: Range<u16> = 15_000..28_000;

/// A reserved port; free again when dropped, or when the process dies.
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port on which nothing listens.
    pub(crate) fn reserve() -> Result<Self, Error> {
        let ports = cache_dir().join("ports");
        fs::create_dir_all(&ports).map_err(io(format!("creating {}", ports.display())))?;
        loop {
            let number = rand::rng().random_range(RANGE);
            let path = ports.join(number.to_string());
            let lock = File::create(&path).map_err(io(format!("creating {}", path.display())))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
