//! As much of the RDS API as `provision` meets: one database on a default group, with the delays that AWS has.
//!
//! After attaching, the group is `applying` and then `pending-reboot`; after a reboot the status is `available` for a moment
//! yet, then `rebooting`. It can go silent at any change, before or after having made it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Instance,
    Aurora,
    MultiAzCluster,
}

/// When to go silent, counted in calls that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    Before(usize),
    After(usize),
}

/// What a call is answered with instead; status 200 stands for an answer that is cut off.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// So many times.
    pub times: usize,
    pub action: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub set: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

pub struct State {
    kind: Kind,
    pub engine_version: &'static str,
    pub port: u16,
    pub attached: String,
    pub groups: BTreeMap<String, Group>,
    /// What the servers run with.
    pub running: BTreeMap<String, String>,
    /// What is still to be seen: status and apply status.
    ahead: Vec<(&'static str, &'static str)>,
    apply: &'static str,
    pub pending_engine_version: bool,
    pub calls: Vec<String>,
    changes: usize,
    pub silence: Option<Silence>,
    pub silent: bool,
    pub refusal: Option<Refusal>,
}

#[derive(Clone)]
pub struct Rds {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

const CHANGES: &[&str] = &["Create", "Copy", "Modify", "Reboot", "Delete", "Reset", "Add", "Remove"];

impl Rds {
    pub fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let default = if kind == Kind::Aurora { "default.aurora-postgresql16" } else { "default.postgres16" };
        let state = State {
            kind,
            engine_version: "16.14",
            port: 5432,
            attached: default.to_owned(),
            groups: [(default.to_owned(), Group::default())].into(),
            running: BTreeMap::new(),
            ahead: Vec::new(),
            apply: "in-sync",
            pending_engine_version: false,
            calls: Vec::new(),
            changes: 0,
            silence: None,
            silent: false,
            refusal: None,
        };
        let rds = Self { endpoint, state: Arc::new(Mutex::new(state)) };
        let state = Arc::clone(&rds.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        rds
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Answers again, from now on to the end.
    pub fn speak(&self) {
        self.with(|state| (state.silence, state.silent) = (None, false));
    }

    pub fn changes(&self) -> Vec<String> {
        let is_change = |call: &String| CHANGES.iter().any(|word| call.starts_with(word));
        self.with(|state| state.calls.iter().filter(|call| is_change(call)).cloned().collect())
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(digits) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = digits.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let request = form(&String::from_utf8(body).unwrap());
    let Some((status, body)) = state.lock().unwrap().answer(&request) else { return };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

fn form(text: &str) -> BTreeMap<String, String> {
    let decode = |part: &str| {
        let mut bytes = Vec::new();
        let mut rest = part.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                b'+' => b' ',
                byte => byte,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

fn tag(name: &str, value: &str) -> String {
    format!("<{name}>{value}</{name}>")
}

fn error(status: u16, code: &str, message: &str) -> Option<(u16, String)> {
    let inner = tag("Type", "Sender") + &tag("Code", code) + &tag("Message", message);
    Some((status, tag("ErrorResponse", &(tag("Error", &inner) + &tag("RequestId", "r")))))
}

impl State {
    fn answer(&mut self, request: &BTreeMap<String, String>) -> Option<(u16, String)> {
        let action = request["Action"].clone();
        if self.silent {
            return None;
        }
        self.calls.push(action.clone());
        if let Some(refusal) = self.refusal.as_mut().filter(|refusal| refusal.times > 0 && refusal.action == action) {
            refusal.times -= 1;
            if refusal.status == 200 {
                return Some((200, format!("<{action}Response><{action}Result><Mark")));
            }
            return error(refusal.status, refusal.code, &refusal.message);
        }
        if CHANGES.iter().any(|word| action.starts_with(word)) {
            self.changes += 1;
            if self.silence == Some(Silence::Before(self.changes)) {
                self.silent = true;
                return None;
            }
            let answer = self.change(&action, request);
            if self.silence == Some(Silence::After(self.changes)) {
                self.silent = true;
                return None;
            }
            return answer;
        }
        self.read(&action, request)
    }

    fn name_of_group(&self, request: &BTreeMap<String, String>) -> String {
        let key = if self.kind == Kind::Instance { "DBParameterGroupName" } else { "DBClusterParameterGroupName" };
        request.get(key).cloned().unwrap_or_default()
    }

    fn change(&mut self, action: &str, request: &BTreeMap<String, String>) -> Option<(u16, String)> {
        let name = self.name_of_group(request);
        if action.starts_with("Create") || action.starts_with("Copy") {
            let suffix = if self.kind == Kind::Instance {
                "DBParameterGroupIdentifier"
            } else {
                "DBClusterParameterGroupIdentifier"
            };
            let from = request.get(&format!("Source{suffix}"));
            let name = request.get(&format!("Target{suffix}")).cloned().unwrap_or(name);
            if self.groups.contains_key(&name) {
                return error(400, "DBParameterGroupAlreadyExists", "it exists");
            }
            let mut group = from.map(|from| self.groups[from].clone()).unwrap_or_default();
            group.tags = list(request, "Tags.Tag", "Key", "Value");
            self.groups.insert(name, group);
        } else if action.contains("ParameterGroup") {
            if name.starts_with("default.") {
                return error(
                    400,
                    "InvalidParameterValue",
                    "The parameter group DBParameterGroupName cannot be modified.",
                );
            }
            if !self.groups.contains_key(&name) {
                return error(404, "DBParameterGroupNotFound", "not found");
            }
            if action.starts_with("Delete") {
                if self.attached == name {
                    return error(400, "InvalidDBParameterGroupState", "in use");
                }
                self.groups.remove(&name);
            } else {
                let changes = list(request, "Parameters.Parameter", "ParameterName", "ParameterValue");
                self.groups.get_mut(&name).unwrap().set.extend(changes);
            }
        } else if action.starts_with("Modify") {
            self.attached = name;
            self.apply = "pending-reboot";
            self.ahead = vec![("available", "applying")];
        } else {
            self.running = self.groups[&self.attached].set.clone();
            self.ahead = vec![("available", self.apply), ("rebooting", self.apply), ("rebooting", "in-sync")];
            self.apply = "in-sync";
        }
        Some((200, format!("<{action}Response><{action}Result/></{action}Response>")))
    }

    fn read(&mut self, action: &str, request: &BTreeMap<String, String>) -> Option<(u16, String)> {
        let name = self.name_of_group(request);
        let (kind, engine) = match self.kind {
            Kind::Aurora => ("Cluster", "aurora-postgresql"),
            Kind::MultiAzCluster => ("Cluster", "postgres"),
            Kind::Instance => ("", "postgres"),
        };
        let body = match action {
            "DescribeDBInstances" => {
                if !self.ahead.is_empty() && self.kind == Kind::Instance {
                    let (status, apply) = self.ahead.remove(0);
                    self.instance("shop", engine, status, apply)
                } else if self.kind == Kind::Instance {
                    self.instance("shop", engine, "available", self.apply)
                } else {
                    self.instance("shop-1", engine, "available", "in-sync")
                        + &self.instance("shop-2", engine, "available", "in-sync")
                }
            }
            "DescribeDBClusters" if self.kind == Kind::Instance => String::new(),
            "DescribeDBClusters" => {
                let (status, apply) = match self.ahead.is_empty() {
                    true => ("available", self.apply),
                    false => self.ahead.remove(0),
                };
                self.cluster(engine, status, apply)
            }
            "DescribeDBEngineVersions" => {
                tag("DBEngineVersion", &tag("DBParameterGroupFamily", &format!("{engine}16")))
            }
            "DescribeDBParameters" | "DescribeDBClusterParameters" => {
                let Some(group) = self.groups.get(&name) else { return error(404, "DBParameterGroupNotFound", "no") };
                let logical = group.set.get("rds.logical_replication").map_or("0", String::as_str);
                let parameter = tag("ParameterName", "rds.logical_replication")
                    + &tag("ParameterValue", logical)
                    + "<Source>system</Source><ApplyType>static</ApplyType><IsModifiable>true</IsModifiable>";
                let page = tag("Parameters", &tag("Parameter", &parameter));
                return Some((200, tag(&format!("{action}Response"), &tag(&format!("{action}Result"), &page))));
            }
            "DescribeDBParameterGroups" | "DescribeDBClusterParameterGroups" => {
                if !self.groups.contains_key(&name) {
                    return error(404, "DBParameterGroupNotFound", "not found");
                }
                let inner = tag(&format!("DB{kind}ParameterGroupName"), &name)
                    + &tag(&format!("DB{kind}ParameterGroupArn"), &name);
                tag(&format!("DB{kind}ParameterGroup"), &inner)
            }
            "ListTagsForResource" => {
                let tags = &self.groups[&request["ResourceName"]].tags;
                let tags: String =
                    tags.iter().map(|(key, value)| tag("Tag", &(tag("Key", key) + &tag("Value", value)))).collect();
                return Some((
                    200,
                    tag("ListTagsForResourceResponse", &tag("ListTagsForResourceResult", &tag("TagList", &tags))),
                ));
            }
            _ => String::new(),
        };
        let plural = format!("{}s", action.trim_start_matches("Describe").trim_end_matches('s'));
        Some((200, tag(&format!("{action}Response"), &tag(&format!("{action}Result"), &tag(&plural, &body)))))
    }

    fn instance(&self, id: &str, engine: &str, status: &str, apply: &str) -> String {
        let group = match self.kind {
            Kind::Instance => self.attached.as_str(),
            _ => "default.members",
        };
        let group =
            tag("DBParameterGroup", &(tag("DBParameterGroupName", group) + &tag("ParameterApplyStatus", apply)));
        let endpoint = tag("Address", "127.0.0.1") + &tag("Port", &self.port.to_string());
        let pending = if self.pending_engine_version { tag("EngineVersion", "17.1") } else { String::new() };
        let cluster = if self.kind == Kind::Instance { String::new() } else { tag("DBClusterIdentifier", "shop") };
        let inner = tag("DBInstanceIdentifier", id)
            + &tag("DBInstanceArn", &format!("arn:aws:rds:eu-west-1:123456789012:db:{id}"))
            + &tag("Engine", engine)
            + &tag("EngineVersion", self.engine_version)
            + &tag("DBInstanceStatus", status)
            + &tag("DBParameterGroups", &group)
            + &tag("Endpoint", &endpoint)
            + &tag("PendingModifiedValues", &pending)
            + &cluster;
        tag("DBInstance", &inner)
    }

    fn cluster(&self, engine: &str, status: &str, apply: &str) -> String {
        let member = |id: &str, writer: &str| {
            let inner = tag("DBInstanceIdentifier", id)
                + &tag("IsClusterWriter", writer)
                + &tag("DBClusterParameterGroupStatus", apply);
            tag("DBClusterMember", &inner)
        };
        let inner = tag("DBClusterIdentifier", "shop")
            + &tag("DBClusterArn", "arn:aws:rds:eu-west-1:123456789012:cluster:shop")
            + &tag("Engine", engine)
            + &tag("EngineVersion", self.engine_version)
            + &tag("Status", status)
            + &tag("DBClusterParameterGroup", &self.attached)
            + &tag("DBClusterMembers", &(member("shop-1", "true") + &member("shop-2", "false")));
        tag("DBCluster", &inner)
    }
}

/// `Prefix.1.Key=a&Prefix.1.Value=b`.
fn list(request: &BTreeMap<String, String>, prefix: &str, key: &str, value: &str) -> BTreeMap<String, String> {
    let keys = (1..).map_while(|n| Some((n, request.get(&format!("{prefix}.{n}.{key}"))?)));
    keys.map(|(n, name)| (name.clone(), request[&format!("{prefix}.{n}.{value}")].clone())).collect()
}
