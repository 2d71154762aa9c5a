//! AWS on loopback: the emulator that `scripts/fetch-emulator` installs, or the endpoint that `AWS_ENDPOINT_URL` names.
//!
//! ```text
//!  AWS_ENDPOINT_URL set    ──> that endpoint (LocalStack), refused unless it is on this machine
//!  otherwise               ──> ministack on a free port, ended by a shell when the test ends, however it ends
//! ```

use std::{
    env, fs,
    io::PipeWriter,
    net::{IpAddr, ToSocketAddrs as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Error, binaries::cache_dir, error::io, port::Port};

const REQUIREMENTS: &str = include_str!("../../../scripts/emulator-requirements.txt");
const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Starts the program and ends it when the pipe closes.
const WATCHDOG: &str = r#"exec 3>&-; "$1" >"$2" 2>&1 </dev/null & pid=$!; cat >/dev/null; kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null"#;

/// The region of everything in it.
pub const REGION: &str = "eu-west-1";

/// An endpoint that stands in for AWS; gone when dropped, if it was started here.
pub struct Emulator {
    /// `127.0.0.1:port`
    address: String,
    _process: Option<Process>,
}

struct Process {
    pipe: Option<PipeWriter>,
    shell: Child,
    _port: Port,
    _directory: tempfile::TempDir,
}

impl Emulator {
    /// Starts it, or takes the endpoint from outside.
    ///
    /// # Errors
    /// It has not been fetched or does not start, or the endpoint is not on this machine.
    pub async fn start() -> Result<Self, Error> {
        if let Ok(endpoint) = env::var("AWS_ENDPOINT_URL") {
            return Ok(Self { address: loopback(&endpoint)?, _process: None });
        }
        Self::own().await
    }

    /// Starts it, whatever the environment says.
    ///
    /// # Errors
    /// It has not been fetched or does not start.
    pub async fn own() -> Result<Self, Error> {
        let program = program();
        if !program.is_file() {
            return Err(Error::NoEmulator { path: program });
        }
        let port = Port::reserve()?;
        let directory = tempfile::tempdir().map_err(io("creating a directory for the emulator"))?;
        let log = directory.path().join("log");
        let address = format!("127.0.0.1:{}", port.number());
        let (end, pipe) = std::io::pipe().map_err(io("making a pipe"))?;
        let shell = Command::new("sh")
            .args(["-c", WATCHDOG, "testkit-emulator"])
            .args([&program, &log])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory.path())
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.number().to_string())
            // Functions that it runs find it so.
            .env("AWS_ENDPOINT_URL", format!("http://{address}"))
            .current_dir(directory.path())
            .stdin(end)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(io("starting the emulator"))?;
        let process = Process { pipe: Some(pipe), shell, _port: port, _directory: directory };
        let emulator = Self { address, _process: Some(process) };
        let deadline = Instant::now() + START_DEADLINE;
        while !emulator.answers().await {
            if Instant::now() > deadline {
                let output = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Program { doing: "starting the emulator".to_owned(), output });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(emulator)
    }

    /// For `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a program needs in its environment to use it and nothing else.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Calls an action of Secrets Manager: the status, and the body of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn secrets(&self, action: &str, body: &str) -> (u16, String) {
        self.json("secretsmanager", &format!("secretsmanager.{action}"), body).await
    }

    /// Calls an action of a service that takes JSON, by its target: the status, and the body of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn json(&self, service: &str, target: &str, body: &str) -> (u16, String) {
        let headers = format!("Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\n");
        self.send("POST /", service, &headers, body.as_bytes()).await
    }

    /// Calls an action of a service that has paths, such as `POST /2015-03-31/functions`: the status, and the body of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn rest(&self, what: &str, service: &str, body: &str) -> (u16, String) {
        self.send(what, service, "Content-Type: application/json\r\n", body.as_bytes()).await
    }

    /// Calls an action of a service that takes a form: the status, and the body of the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn form(&self, service: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.send("POST /", service, "Content-Type: application/x-www-form-urlencoded\r\n", body.join("&").as_bytes())
            .await
    }

    /// Makes a bucket, or an object in one.
    ///
    /// # Panics
    /// When it is not made.
    pub async fn put_object(&self, path: &str, content: &[u8]) {
        let (status, answer) = self.send(&format!("PUT /{path}"), "s3", "", content).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Puts a value of a metric into CloudWatch, measured now.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn put_metric(&self, namespace: &str, metric: &str, dimension: (&str, &str), value: f64) {
        let (name, of) = dimension;
        let fields = [
            ("Action", "PutMetricData"),
            ("Version", "2010-08-01"),
            ("Namespace", namespace),
            ("MetricData.member.1.MetricName", metric),
            ("MetricData.member.1.Dimensions.member.1.Name", name),
            ("MetricData.member.1.Dimensions.member.1.Value", of),
            ("MetricData.member.1.Value", &value.to_string()),
        ];
        let (status, answer) = self.form("monitoring", &fields).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Statistics of a metric over the last ten minutes, in the minutes that have one.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn metric(
        &self,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
        statistic: &str,
    ) -> Vec<f64> {
        let at = |seconds: i64| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            (now.cast_signed() + seconds).to_string()
        };
        let mut fields = vec![
            ("Action".to_owned(), "GetMetricStatistics".to_owned()),
            ("Version".to_owned(), "2010-08-01".to_owned()),
            ("Namespace".to_owned(), namespace.to_owned()),
            ("MetricName".to_owned(), metric.to_owned()),
            ("StartTime".to_owned(), at(-600)),
            ("EndTime".to_owned(), at(60)),
            ("Period".to_owned(), "60".to_owned()),
            ("Statistics.member.1".to_owned(), statistic.to_owned()),
        ];
        for (n, (name, value)) in (1..).zip(dimensions) {
            fields.push((format!("Dimensions.member.{n}.Name"), (*name).to_owned()));
            fields.push((format!("Dimensions.member.{n}.Value"), (*value).to_owned()));
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (status, answer) = self.form("monitoring", &fields).await;
        assert_eq!(status, 200, "{answer}");
        let (open, close) = (format!("<{statistic}>"), format!("</{statistic}>"));
        let values = answer.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()?.trim().parse().ok());
        values.collect()
    }

    async fn send(&self, what: &str, service: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let request = format!(
            "{what} HTTP/1.1\r\nHost: {}\r\n{headers}X-Amz-Date: 20260101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.exchange(&[request.as_bytes(), body].concat())
            .await
            .unwrap_or_else(|error| panic!("{what} of {service}: {error}"))
    }

    async fn answers(&self) -> bool {
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        self.exchange(request.as_bytes()).await.is_ok_and(|(status, _)| status == 200)
    }

    async fn exchange(&self, request: &[u8]) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        Ok((status, body))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.pipe.take());
        drop(self.shell.wait());
    }
}

/// The zip file of a function, with this program as its `bootstrap`.
///
/// # Panics
/// When it is not built, or `strip` or Python is missing.
#[must_use]
pub fn function_zip(program: &Path) -> Vec<u8> {
    assert!(program.is_file(), "{} is not built: cargo build --workspace --bins", program.display());
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("making a directory: {error}"));
    let done = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(Command::new("strip").arg("-o").arg(directory.path().join("bootstrap")).arg(program));
    done(Command::new("python3").args(["-m", "zipfile", "-c", "function.zip", "bootstrap"]).current_dir(&directory));
    fs::read(directory.path().join("function.zip")).unwrap_or_else(|error| panic!("reading the zip file: {error}"))
}

/// For a form: everything but what never has a meaning there.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn program() -> PathBuf {
    let version = REQUIREMENTS.lines().find_map(|line| line.strip_prefix("ministack==")).unwrap_or_default();
    cache_dir().join("emulator").join(format!("ministack-{version}")).join("bin/ministack")
}

/// `host:port` of the endpoint. Tests write secrets and change databases: never anywhere but here.
fn loopback(endpoint: &str) -> Result<String, Error> {
    let refused = || Error::NotLoopback(endpoint.to_owned());
    let address = endpoint.strip_prefix("http://").ok_or_else(refused)?.trim_end_matches('/');
    let with_port = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let mut found = with_port.to_socket_addrs().map_err(|_| refused())?.peekable();
    let here = found.peek().is_some() && found.all(|address| is_here(address.ip()));
    if here { Ok(with_port) } else { Err(refused()) }
}

fn is_here(address: IpAddr) -> bool {
    address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_on_this_machine_is_taken() {
        assert_eq!(loopback("http://127.0.0.1:4566/").unwrap(), "127.0.0.1:4566");
        assert!(loopback("http://[::1]:4566").is_ok());
        for elsewhere in ["https://secretsmanager.eu-west-1.amazonaws.com", "http://192.0.2.1:4566", "127.0.0.1:4566"] {
            assert!(matches!(loopback(elsewhere), Err(Error::NotLoopback(_))), "{elsewhere}");
        }
    }
}
