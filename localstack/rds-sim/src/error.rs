//! What AWS answers when it refuses.

/// A refusal: HTTP status, code, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterCombination", message)
    }

    pub(crate) fn group_missing(name: &str) -> Self {
        Self::new(404, "DBParameterGroupNotFound", format!("DBParameterGroup not found: {name}"))
    }

    pub(crate) fn instance_missing(id: &str) -> Self {
        Self::new(404, "DBInstanceNotFound", format!("DBInstance {id} not found."))
    }

    pub(crate) fn cluster_missing(id: &str) -> Self {
        Self::new(404, "DBClusterNotFoundFault", format!("DBCluster {id} not found."))
    }

    /// The body.
    pub(crate) fn xml(&self, request_id: &str) -> String {
        let side = if self.status < 500 { "Sender" } else { "Receiver" };
        let mut xml = crate::xml::Xml::default();
        xml.within("ErrorResponse", |xml| {
            xml.within("Error", |xml| {
                xml.text("Type", side);
                xml.text("Code", self.code);
                xml.text("Message", &self.message);
            });
            xml.text("RequestId", request_id);
        });
        xml.finish()
    }
}
