//! Metrics on their way to CloudWatch.

use std::{fmt::Write as _, time::Duration};

use aws_smithy_xml::decode::XmlDecodeError;

use super::{CloudWatch, Patience, escape};
use crate::error::{Call, Error};

const CALL: Call = Call { service: "cloudwatch", action: "PutMetricData" };

/// A minute's values are worth some tries while CloudWatch throttles, and nothing once the next minute has come.
const PATIENCE: Patience = Patience { attempts: 5, altogether: Duration::from_secs(15) };

/// A call takes 1,000 values and 1 MB: these are within both.
const MOST: usize = 500;

/// One value of a metric, measured now.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    /// The metric.
    pub name: &'static str,
    /// `Bytes`, `Seconds`, `Count`, …
    pub unit: &'static str,
    /// Finite.
    pub value: f64,
    /// What tells it from others of the same name.
    pub dimensions: Vec<(&'static str, String)>,
}

impl CloudWatch {
    /// Keeps values, in as few calls as there can be. A value that is no number is left out: CloudWatch would refuse all of them.
    ///
    /// # Errors
    /// CloudWatch does not take them, also when it was tried again.
    pub async fn put(&self, namespace: &str, data: &[Datum]) -> Result<(), Error> {
        let numbers: Vec<&Datum> = data.iter().filter(|datum| datum.value.is_finite()).collect();
        for some in numbers.chunks(MOST) {
            self.call(CALL, form(namespace, some), PATIENCE, |_: &str| Ok::<(), XmlDecodeError>(())).await?;
        }
        Ok(())
    }
}

fn form(namespace: &str, data: &[&Datum]) -> String {
    let mut form = format!("Action={}&Version=2010-08-01&Namespace={}", CALL.action, escape(namespace));
    // Writing to a string cannot fail.
    let mut say = |number: usize, field: &str, value: &str| {
        let _ = write!(form, "&MetricData.member.{number}.{field}={}", escape(value));
    };
    for (number, datum) in (1..).zip(data) {
        say(number, "MetricName", datum.name);
        say(number, "Unit", datum.unit);
        say(number, "Value", &datum.value.to_string());
        for (dimension, (name, value)) in (1..).zip(&datum.dimensions) {
            say(number, &format!("Dimensions.member.{dimension}.Name"), name);
            say(number, &format!("Dimensions.member.{dimension}.Value"), value);
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_name_unit_and_dimensions() {
        let up = Datum { name: "Up", unit: "None", value: 1.0, dimensions: vec![("Slot", "a b".into())] };
        let rate = Datum { name: "WalBytesPerSecond", unit: "Bytes/Second", value: 0.5, dimensions: Vec::new() };
        assert_eq!(
            form("pgstream-aws", &[&up, &rate]),
            "Action=PutMetricData&Version=2010-08-01&Namespace=pgstream-aws\
             &MetricData.member.1.MetricName=Up&MetricData.member.1.Unit=None&MetricData.member.1.Value=1\
             &MetricData.member.1.Dimensions.member.1.Name=Slot&MetricData.member.1.Dimensions.member.1.Value=a%20b\
             &MetricData.member.2.MetricName=WalBytesPerSecond&MetricData.member.2.Unit=Bytes%2FSecond&MetricData.member.2.Value=0.5"
        );
    }
}
