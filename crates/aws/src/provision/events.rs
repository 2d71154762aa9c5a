//! What happened to a database lately, as RDS tells it.

use aws_sdk_rds::types::{Event, SourceType};
use jiff::Timestamp;

use super::{Database, Error, Inspection, Topology};

/// How far back it is asked: RDS keeps events for 14 days.
const A_DAY_IN_MINUTES: i32 = 24 * 60;

/// Something that happened to an instance or a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEvent {
    /// When.
    pub at: Timestamp,
    /// Identifier of the instance or cluster.
    pub source: String,
    /// Such as `availability`, `failover` and `low storage`.
    pub categories: Vec<String>,
    /// In words.
    pub message: String,
}

impl PastEvent {
    /// None when RDS does not say when it was.
    fn read(event: Event) -> Option<Self> {
        let at = event.date?;
        Some(Self {
            at: Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or(0)).ok()?,
            source: event.source_identifier.unwrap_or_default(),
            categories: event.event_categories.unwrap_or_default(),
            message: event.message.unwrap_or_default().trim().to_owned(),
        })
    }
}

impl Database {
    /// What happened in the last day to the instance, or to the cluster and its members; newest first.
    ///
    /// # Errors
    /// AWS does not answer, or does not allow `rds:DescribeEvents`.
    pub async fn events(&self, of: &Inspection) -> Result<Vec<PastEvent>, Error> {
        let mut asked = Vec::new();
        match of.topology {
            Topology::Instance => asked.push((SourceType::DbInstance, &of.id)),
            Topology::Aurora | Topology::MultiAzCluster => {
                asked.push((SourceType::DbCluster, &of.id));
                asked.extend(of.writer.iter().chain(&of.readers).map(|member| (SourceType::DbInstance, member)));
            }
        }
        let mut events = Vec::new();
        for (kind, id) in asked {
            events.extend(self.api.events(kind, id, A_DAY_IN_MINUTES).await?.into_iter().filter_map(PastEvent::read));
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        Ok(events)
    }
}
