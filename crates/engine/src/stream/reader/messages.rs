//! What each message of the stream means: transactions, relation versions, rows, schema changes.

use std::sync::Arc;

use bytes::Bytes;
use pgstream_postgres::{
    Lsn,
    pgoutput::{Message, Relation, RelationId, Timestamp, Truncate, Tuple, Xid},
};

use super::{At, Reader};
use crate::stream::{
    Error,
    batch::{self, Kind, RelIndex},
    follow::{Follow, Followed},
    relation::{SourceRelation, TypeName},
    schema,
    work::Mark,
};

impl Reader {
    pub(super) fn message(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let message = Message::parse(bytes).map_err(|e| Error::Protocol { problem: e.to_string() })?;
        if !self.copying.is_empty() && self.must_wait(&message) {
            self.held = Some(bytes.clone());
            return Ok(());
        }
        match &message {
            Message::Begin { final_lsn, xid, .. } => self.begin(*final_lsn, *xid),
            Message::Commit { end_lsn, commit_time, .. } => self.commit(*end_lsn, *commit_time),
            Message::Relation(relation) => {
                self.relation(relation);
                Ok(())
            }
            Message::Type { id, namespace, name } => {
                self.types.insert(id.0, TypeName { schema: (*namespace).to_owned(), name: (*name).to_owned() });
                Ok(())
            }
            Message::Insert { relation, new } => self.row(*relation, Kind::Insert(*new)),
            Message::Update { relation, old, new } => self.row(*relation, Kind::Update { old: *old, new: *new }),
            Message::Delete { relation, old } => self.row(*relation, Kind::Delete(*old)),
            Message::Truncate(truncate) => self.truncate(truncate),
            Message::Origin { .. } | Message::Logical(_) => Ok(()),
            _ => Err(Error::Protocol { problem: "a streamed or prepared transaction, which was not asked for".into() }),
        }
    }

    fn begin(&mut self, commit: Lsn, xid: Xid) -> Result<(), Error> {
        if self.at != At::Boundary {
            return Err(Error::Protocol { problem: "BEGIN inside a transaction".into() });
        }
        // The start of a commit record before the position means that the record itself ends at or before it.
        self.at = if commit < self.start {
            At::Known
        } else {
            self.chunk.marks.push(Mark { first: self.chunk.batch.len(), commit });
            At::Inside { xid: xid.0, commit }
        };
        Ok(())
    }

    fn commit(&mut self, end: Lsn, time: Timestamp) -> Result<(), Error> {
        match std::mem::replace(&mut self.at, At::Boundary) {
            At::Boundary => return Err(Error::Protocol { problem: "COMMIT outside a transaction".into() }),
            At::Known => {}
            At::Inside { .. } => {
                if end < self.read_to {
                    return Err(Error::Protocol { problem: format!("COMMIT at {end} after {}", self.read_to) });
                }
                self.read_to = end;
                self.chunk.transactions += 1;
                self.chunk.commit_time = Some(time);
            }
        }
        Ok(())
    }

    fn relation(&mut self, message: &Relation<'_>) {
        let relation = SourceRelation::new(message, &self.types);
        let known = self.versions.get(&message.id).map(|known| **known == relation);
        if known == Some(true) {
            return;
        }
        self.adopt(message.id, Arc::new(relation));
        let follows = matches!(self.follow.get(&message.id), Some(Follow::Rows(Followed { copied: None, .. })));
        if follows && known.is_none() && matches!(self.at, At::Inside { .. }) {
            self.unknown.push(message.id);
        }
    }

    /// Rows of the relation follow in this version.
    fn adopt(&mut self, id: RelationId, relation: Arc<SourceRelation>) {
        let (schema, name) = (relation.table.schema.as_str(), relation.table.name.as_str());
        let follow = if schema == "pgstream" {
            if name == "schema_log" { Follow::SchemaLog } else { Follow::Ignored }
        } else if self.filter.wants_rows(schema, name) {
            let index = RelIndex(self.relation_count);
            self.relation_count += 1;
            self.chunk.relations.push(Arc::clone(&relation));
            let copied = schema::copied(&self.ledger, &relation.table).filter(|c| c.reaches(self.start));
            Follow::Rows(Followed { index, columns: relation.columns.len(), copied, touched: None })
        } else {
            Follow::Ignored
        };
        if let Some(Follow::Rows(_)) = self.follow.insert(id, follow) {
            // Rows of the old version must not be merged with, or moved behind, rows of the new one.
            self.chunk.batch.barrier();
        }
        self.versions.insert(id, relation);
    }

    /// A row of the log of schema changes.
    fn schema_change(&mut self, id: RelationId, row: Tuple<'_>, xid: u32, commit: Lsn) -> Result<(), Error> {
        let Some(log) = self.versions.get(&id) else { return Ok(()) };
        let mut ddl = schema::read(log, row, commit)?;
        if schema::is_copied(&mut ddl.record, &self.ledger, xid, commit) {
            return Ok(());
        }
        let renamed: Vec<_> = self
            .versions
            .iter()
            .filter_map(|(id, version)| Some((*id, Arc::new(schema::renamed(version, &ddl.record)?))))
            .collect();
        for (id, version) in renamed {
            self.adopt(id, version);
        }
        self.ddl = Some(Box::new(ddl));
        Ok(())
    }

    fn row(&mut self, id: RelationId, kind: Kind<'_>) -> Result<(), Error> {
        let (xid, commit) = match self.at {
            At::Inside { xid, commit } => (xid, commit),
            At::Known => return Ok(()),
            At::Boundary => return Err(Error::Protocol { problem: "a row outside a transaction".into() }),
        };
        match self.follow.get_mut(&id) {
            None => Err(Error::Protocol { problem: format!("a row of relation {id}, which was never described") }),
            Some(Follow::Ignored | Follow::Unborn(_)) => Ok(()),
            Some(Follow::SchemaLog) => match kind {
                Kind::Insert(row) => self.schema_change(id, row, xid, commit),
                Kind::Update { .. } | Kind::Delete(_) => Ok(()),
            },
            Some(Follow::Rows(followed)) if followed.is_copied(xid, commit) => Ok(()),
            Some(Follow::Rows(followed)) => {
                if !followed.fits(kind) {
                    return Err(Error::Protocol {
                        problem: format!("a row of relation {id} with another column count"),
                    });
                }
                followed.touch(&mut self.chunk, self.sent);
                self.chunk.batch.push(followed.index, kind);
                Ok(())
            }
        }
    }

    fn truncate(&mut self, truncate: &Truncate<'_>) -> Result<(), Error> {
        let (xid, commit) = match self.at {
            At::Inside { xid, commit } => (xid, commit),
            At::Known => return Ok(()),
            At::Boundary => return Err(Error::Protocol { problem: "TRUNCATE outside a transaction".into() }),
        };
        let mut relations = Vec::new();
        for id in truncate.relations() {
            match self.follow.get_mut(&id) {
                None => {
                    let problem = format!("TRUNCATE of relation {id}, which was never described");
                    return Err(Error::Protocol { problem });
                }
                Some(Follow::Rows(followed)) if !followed.is_copied(xid, commit) => {
                    followed.touch(&mut self.chunk, self.sent);
                    relations.push(followed.index);
                }
                Some(_) => {}
            }
        }
        if !relations.is_empty() {
            let Truncate { cascade, restart_identity, .. } = *truncate;
            self.chunk.batch.truncate(batch::Truncate { relations, cascade, restart_identity });
            self.chunk.truncates.push(commit);
        }
        Ok(())
    }

    /// Whether a message needs what is being copied: a row that the copy will not hold, a truncate, which may reach those
    /// tables, and a schema change.
    fn must_wait(&self, message: &Message<'_>) -> bool {
        let At::Inside { xid, commit } = self.at else { return false };
        match message {
            Message::Truncate(_) => true,
            Message::Insert { relation, .. } | Message::Update { relation, .. } | Message::Delete { relation, .. } => {
                match self.follow.get(relation) {
                    Some(Follow::SchemaLog) => true,
                    Some(Follow::Rows(followed)) if !followed.is_copied(xid, commit) => {
                        self.versions.get(relation).is_some_and(|version| self.copying.contains(&version.table))
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }
}
