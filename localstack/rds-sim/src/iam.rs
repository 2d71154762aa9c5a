//! Who may call what: policies as IAM reads them, as far as those of this repository go.
//!
//! ```text
//!  Call ──> (action, ARN), … all of them must be allowed by some statement
//! ```
//! Statements allow; `*` and `?` match as in IAM. Conditions are not looked at.

use serde_json::Value;

use crate::{error::Refusal, request::Call, world::arn};

/// Statements that allow.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
}

impl Policy {
    /// From the JSON of a policy document.
    ///
    /// # Panics
    /// It is none, or it has something that is not understood here: a test should know.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("a policy: {error}"));
        let statements = document["Statement"].as_array().unwrap_or_else(|| panic!("a policy without statements"));
        Self { statements: statements.iter().map(Statement::parse).collect() }
    }

    /// What both allow.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.statements.extend(other.statements);
        self
    }

    /// The actions that it names.
    #[must_use]
    pub fn actions(&self) -> Vec<String> {
        let mut all: Vec<String> = self.statements.iter().flat_map(|statement| statement.actions.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The same without one action.
    #[must_use]
    pub fn without(mut self, action: &str) -> Self {
        self.statements.iter_mut().for_each(|statement| statement.actions.retain(|found| found != action));
        self
    }

    /// Whether it allows an action on a resource.
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        self.statements.iter().any(|statement| {
            statement.actions.iter().any(|pattern| matches(pattern, action))
                && statement.resources.iter().any(|pattern| matches(pattern, resource))
        })
    }
}

impl Statement {
    fn parse(value: &Value) -> Self {
        let list = |key: &str| match &value[key] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => panic!("a statement without {key}: {value}"),
        };
        assert_eq!(value["Effect"], "Allow", "only statements that allow are understood: {value}");
        Self { actions: list("Action"), resources: list("Resource") }
    }
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], text) || text.chars().next().is_some_and(|c| matches(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) => matches(&pattern[1..], &text[c.len_utf8()..]),
        (Some(wanted), Some(c)) if wanted == c => matches(&pattern[c.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

/// What IAM is asked for a call: every action with every resource. Actions on lists are asked for all there are.
pub(crate) fn needed(call: &Call) -> Vec<(String, String)> {
    let kind = if call.action.contains("Cluster") { "cluster-pg" } else { "pg" };
    let named = |parameter: &str, kind: &str| {
        let name = call.get(parameter).map(|name| name.rsplit(':').next().unwrap_or(name).to_lowercase());
        arn(kind, name.as_deref().unwrap_or("*"))
    };
    let given = |parameter: &str, kind: &str| call.get(parameter).map(|_| named(parameter, kind));
    let group = || match kind {
        "pg" => named("DBParameterGroupName", kind),
        _ => named("DBClusterParameterGroupName", kind),
    };
    let copied = |side: &str| match kind {
        "pg" => named(&format!("{side}DBParameterGroupIdentifier"), kind),
        _ => named(&format!("{side}DBClusterParameterGroupIdentifier"), kind),
    };
    if call.action == "GetMetricStatistics" {
        return vec![("cloudwatch:GetMetricStatistics".to_owned(), "*".to_owned())];
    }
    let resources = match call.action.as_str() {
        "DescribeDBInstances" | "RebootDBInstance" => vec![named("DBInstanceIdentifier", "db")],
        "DescribeDBClusters" | "RebootDBCluster" => vec![named("DBClusterIdentifier", "cluster")],
        "ModifyDBInstance" => {
            let group = given("DBParameterGroupName", "pg");
            [named("DBInstanceIdentifier", "db")].into_iter().chain(group).collect()
        }
        "ModifyDBCluster" => {
            let group = given("DBClusterParameterGroupName", "cluster-pg");
            [named("DBClusterIdentifier", "cluster")].into_iter().chain(group).collect()
        }
        "CopyDBParameterGroup" | "CopyDBClusterParameterGroup" => vec![copied("Source"), copied("Target")],
        "ListTagsForResource" | "AddTagsToResource" | "RemoveTagsFromResource" => {
            vec![call.get("ResourceName").unwrap_or("*").to_owned()]
        }
        action if action.contains("ParameterGroup") || action.ends_with("Parameters") => vec![group()],
        _ => vec!["*".to_owned()],
    };
    // Tags that come with something new are asked for by themselves.
    let tagged = call.get("Tags.Tag.1.Key").and_then(|_| resources.last().cloned());
    let action = format!("rds:{}", call.action);
    let asked = resources.into_iter().map(|resource| (action.clone(), resource));
    asked.chain(tagged.map(|resource| ("rds:AddTagsToResource".to_owned(), resource))).collect()
}

/// What AWS says to who may not.
pub(crate) fn denied(access_key: &str, action: &str, resource: &str) -> Refusal {
    Refusal::new(
        403,
        "AccessDenied",
        format!(
            "User: arn:aws:iam::123456789012:user/{access_key} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_iam() {
        assert!(matches("rds:Describe*", "rds:DescribeDBInstances") && matches("*", "") && matches("a*c", "abbc"));
        assert!(matches("secret:name-??????", "secret:name-AbCdEf") && !matches("secret:name-??????", "secret:name-x"));
        assert!(!matches("rds:Describe", "rds:DescribeDBInstances") && !matches("a*c", "ab"));
    }

    #[test]
    fn a_call_asks_for_every_resource_it_touches() {
        let call = Call::parse(
            "Action=CopyDBParameterGroup&SourceDBParameterGroupIdentifier=a&TargetDBParameterGroupIdentifier=B&Tags.Tag.1.Key=k",
            "",
        );
        let pg = |name: &str| arn("pg", name);
        assert_eq!(
            needed(&call),
            [
                ("rds:CopyDBParameterGroup".to_owned(), pg("a")),
                ("rds:CopyDBParameterGroup".to_owned(), pg("b")),
                ("rds:AddTagsToResource".to_owned(), pg("b")),
            ]
        );
        let call = Call::parse("Action=ModifyDBCluster&DBClusterIdentifier=c&DBClusterParameterGroupName=g", "");
        let resources: Vec<String> = needed(&call).into_iter().map(|(_, resource)| resource).collect();
        assert_eq!(resources, [arn("cluster", "c"), arn("cluster-pg", "g")]);
        let all = Call::parse("Action=DescribeDBInstances", "");
        assert_eq!(needed(&all), [("rds:DescribeDBInstances".to_owned(), arn("db", "*"))]);
    }

    #[test]
    fn what_is_not_allowed_is_not() {
        let policy = Policy::parse(
            r#"{"Statement": [{"Effect": "Allow", "Action": ["rds:Reboot*"], "Resource": "arn:aws:rds:*:*:db:shop"}]}"#,
        );
        assert!(policy.allows("rds:RebootDBInstance", "arn:aws:rds:eu-west-1:1:db:shop"));
        assert!(!policy.allows("rds:RebootDBInstance", "arn:aws:rds:eu-west-1:1:db:other"));
        assert!(!policy.allows("rds:ModifyDBInstance", "arn:aws:rds:eu-west-1:1:db:shop"));
        assert!(!policy.without("rds:Reboot*").allows("rds:RebootDBInstance", "arn:aws:rds:eu-west-1:1:db:shop"));
    }
}
