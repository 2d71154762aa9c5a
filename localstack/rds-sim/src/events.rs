//! What happened, as `DescribeEvents` tells it.

use jiff::{SignedDuration, Timestamp};

use crate::{
    describe::paged,
    error::Refusal,
    request::Call,
    world::{State, arn},
    xml::Xml,
};

/// `Duration` when a call gives none, in minutes.
const LAST_HOUR: i64 = 60;

/// Something that happened to an instance or a cluster.
pub(crate) struct Event {
    at: Timestamp,
    /// `db-instance` or `db-cluster`.
    source_type: &'static str,
    source: String,
    category: String,
    message: String,
}

impl State {
    /// Something happened just now. What happens to the server of a cluster is told of its writer.
    pub(crate) fn server_event(&mut self, id: &str, category: &str, message: &str) {
        let writer = self.clusters.get(id).and_then(|cluster| cluster.members().into_iter().next());
        self.add_event("db-instance", writer.as_deref().unwrap_or(id), SignedDuration::ZERO, category, message);
    }

    /// Something happened to an instance or a cluster so long ago.
    pub(crate) fn past_event(&mut self, id: &str, ago: SignedDuration, category: &str, message: &str) {
        let source_type = if self.clusters.contains_key(id) { "db-cluster" } else { "db-instance" };
        self.add_event(source_type, id, ago, category, message);
    }

    fn add_event(
        &mut self,
        source_type: &'static str,
        source: &str,
        ago: SignedDuration,
        category: &str,
        message: &str,
    ) {
        let (source, category, message) = (source.to_owned(), category.to_owned(), message.to_owned());
        self.events.push(Event { at: Timestamp::now() - ago, source_type, source, category, message });
    }

    pub(crate) fn describe_events(&self, call: &Call) -> Result<Xml, Refusal> {
        let (source, source_type) = (call.get("SourceIdentifier").map(str::to_lowercase), call.get("SourceType"));
        if source.is_some() && source_type.is_none() {
            return Err(Refusal::combination("SourceType must be given with SourceIdentifier."));
        }
        let minutes = call.get("Duration").and_then(|minutes| minutes.parse().ok()).unwrap_or(LAST_HOUR);
        let since = Timestamp::now() - SignedDuration::from_mins(minutes);
        let wanted = |event: &&Event| {
            event.at >= since
                && source_type.is_none_or(|wanted| wanted == event.source_type)
                && source.as_ref().is_none_or(|wanted| *wanted == event.source)
        };
        paged(call, self.events.iter().filter(wanted).map(Event::describe).collect(), "Events", "Event")
    }
}

impl Event {
    fn describe(&self) -> Xml {
        let mut xml = Xml::default();
        xml.text("SourceIdentifier", &self.source);
        xml.text("SourceType", self.source_type);
        xml.text("Message", &self.message);
        xml.within("EventCategories", |xml| xml.text("EventCategory", &self.category));
        xml.text("Date", &format!("{:.3}", self.at));
        let kind = if self.source_type == "db-cluster" { "cluster" } else { "db" };
        xml.text("SourceArn", &arn(kind, &self.source));
        xml
    }
}
