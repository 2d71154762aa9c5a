//! CloudWatch's embedded metric format: a line of a log that CloudWatch Logs turns into metrics.
//!
//! Source: "Specification: Embedded metric format", Amazon CloudWatch User Guide. A line is one JSON object: `_aws` says
//! which of its members are metrics, and which are dimensions.

use serde_json::{Map, Value, json};

use crate::{
    NAMESPACE,
    metrics::Metric,
    stream::{self, Counted},
};

/// The line of what a stream counted, measured at `millis` since 1970.
#[must_use]
pub fn line(slot: &str, database: &str, counted: &Counted, millis: i64) -> String {
    let values = stream::of(counted);
    let named = |metric: &Metric| json!({ "Name": metric.name, "Unit": metric.unit.name() });
    let metrics: Vec<Value> = values.iter().map(|(metric, _)| named(metric)).collect();
    let mut directives =
        vec![json!({ "Namespace": NAMESPACE, "Dimensions": [["Slot", "Database"]], "Metrics": metrics })];
    let mut line = Map::new();
    if let Some(code) = &counted.error {
        let dimensions = json!([["Slot", "Database", "Code"]]);
        directives
            .push(json!({ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": [named(&stream::ERRORS)] }));
        line.insert("Code".to_owned(), json!(code));
    }
    line.insert("_aws".to_owned(), json!({ "Timestamp": millis, "CloudWatchMetrics": directives }));
    line.insert("Slot".to_owned(), json!(slot));
    line.insert("Database".to_owned(), json!(database));
    for (metric, value) in values {
        line.insert(metric.name.to_owned(), json!(value));
    }
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::tests::one_batch;

    #[test]
    fn a_line_says_which_of_its_members_are_metrics() {
        let text = line("ours", "app", &one_batch(), 1_767_225_600_000);
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap(), @r#"
        {
          "ApplyMilliseconds": 20.0,
          "BatchRows": 10.0,
          "Database": "app",
          "Errors": 0.0,
          "Fallbacks": 0.0,
          "LagBytes": 0.0,
          "LagSeconds": 0.0,
          "ReceivedBytes": 512.0,
          "Reconnects": 0.0,
          "RowsDeleted": 1.0,
          "RowsInserted": 6.0,
          "RowsUpdated": 3.0,
          "SchemaChanges": 0.0,
          "Slot": "ours",
          "Transactions": 3.0,
          "Truncates": 0.0,
          "_aws": {
            "CloudWatchMetrics": [
              {
                "Dimensions": [
                  [
                    "Slot",
                    "Database"
                  ]
                ],
                "Metrics": [
                  {
                    "Name": "Transactions",
                    "Unit": "Count"
                  },
                  {
                    "Name": "RowsInserted",
                    "Unit": "Count"
                  },
                  {
                    "Name": "RowsUpdated",
                    "Unit": "Count"
                  },
                  {
                    "Name": "RowsDeleted",
                    "Unit": "Count"
                  },
                  {
                    "Name": "Truncates",
                    "Unit": "Count"
                  },
                  {
                    "Name": "ReceivedBytes",
                    "Unit": "Bytes"
                  },
                  {
                    "Name": "SchemaChanges",
                    "Unit": "Count"
                  },
                  {
                    "Name": "Fallbacks",
                    "Unit": "Count"
                  },
                  {
                    "Name": "Reconnects",
                    "Unit": "Count"
                  },
                  {
                    "Name": "Errors",
                    "Unit": "Count"
                  },
                  {
                    "Name": "BatchRows",
                    "Unit": "Count"
                  },
                  {
                    "Name": "ApplyMilliseconds",
                    "Unit": "Milliseconds"
                  },
                  {
                    "Name": "LagBytes",
                    "Unit": "Bytes"
                  },
                  {
                    "Name": "LagSeconds",
                    "Unit": "Seconds"
                  }
                ],
                "Namespace": "pgstream-aws"
              }
            ],
            "Timestamp": 1767225600000
          }
        }
        "#);
    }

    #[test]
    fn an_error_is_counted_by_its_code_too() {
        let text = line("ours", "app", &one_batch().ended(Some("stream::conflict".into())), 0);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["Errors"], 1.0);
        assert_eq!(value["Code"], "stream::conflict");
        assert_eq!(
            value["_aws"]["CloudWatchMetrics"][1],
            json!({
                "Namespace": "pgstream-aws",
                "Dimensions": [["Slot", "Database", "Code"]],
                "Metrics": [{ "Name": "Errors", "Unit": "Count" }]
            })
        );
    }
}
