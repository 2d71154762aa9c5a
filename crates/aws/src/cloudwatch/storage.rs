//! How much room a disk has.

use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use jiff::{SignedDuration, Timestamp};

use super::{ATTEMPT_TIMEOUT, CloudWatch, Patience, each};
use crate::error::{Call, Error};

const CALL: Call = Call { service: "cloudwatch", action: "GetMetricStatistics" };

const PATIENCE: Patience = Patience { attempts: 2, altogether: ATTEMPT_TIMEOUT.saturating_mul(2) };

/// The metric comes every minute, some minutes late.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The end is not part of what is asked for, is cut to a second, and the clock there may be ahead.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// A value, and when it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Datapoint {
    pub(crate) value: f64,
    /// As CloudWatch writes it.
    pub(crate) at: String,
}

impl CloudWatch {
    /// Bytes that were free on the disk of an instance, lately; nothing when nobody measures it.
    pub(crate) async fn free_storage(&self, instance: &str) -> Result<Option<Datapoint>, Error> {
        Ok(self.ask(instance).await?.into_iter().max_by(|a, b| a.at.cmp(&b.at)))
    }

    /// Bytes that were free on the disk of an instance over the last hour, oldest first, each with its time in seconds since
    /// 1970; none when nobody measures it.
    ///
    /// # Errors
    /// CloudWatch cannot be asked.
    pub async fn free_storage_history(&self, instance: &str) -> Result<Vec<(f64, f64)>, Error> {
        let seconds = |at: &str| at.parse::<Timestamp>().ok().map(|at| at.as_duration().as_secs_f64());
        let found = self.ask(instance).await?;
        let mut history: Vec<(f64, f64)> =
            found.into_iter().filter_map(|point| Some((seconds(&point.at)?, point.value))).collect();
        history.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(history)
    }

    async fn ask(&self, instance: &str) -> Result<Vec<Datapoint>, Error> {
        self.call(CALL, form(instance, Timestamp::now()), PATIENCE, datapoints).await
    }
}

/// An identifier of RDS needs no encoding; of a time, the colons do.
fn form(instance: &str, now: Timestamp) -> String {
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ").to_string();
    format!(
        "Action={}&Version=2010-08-01&Namespace=AWS%2FRDS&MetricName=FreeStorageSpace\
         &Dimensions.member.1.Name=DBInstanceIdentifier&Dimensions.member.1.Value={instance}\
         &StartTime={}&EndTime={}&Period=60&Statistics.member.1=Minimum",
        CALL.action,
        time(now - WINDOW),
        time(now + AHEAD),
    )
}

fn datapoints(text: &str) -> Result<Vec<Datapoint>, XmlDecodeError> {
    let mut found = Vec::new();
    let mut document = Document::new(text);
    each(&mut document.root_element()?, |name, result| match name {
        "GetMetricStatisticsResult" => each(result, |name, list| match name {
            "Datapoints" => each(list, |_, member| {
                found.push(datapoint(member)?);
                Ok(())
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(found)
}

fn datapoint(member: &mut ScopedDecoder<'_, '_>) -> Result<Datapoint, XmlDecodeError> {
    let (mut value, mut at) = (None, None);
    each(member, |name, element| {
        match name {
            "Minimum" => value = try_data(element)?.trim().parse().ok(),
            "Timestamp" => at = Some(try_data(element)?.trim().to_owned()),
            _ => {}
        }
        Ok(())
    })?;
    match (value, at) {
        (Some(value), Some(at)) => Ok(Datapoint { value, at }),
        _ => Err(XmlDecodeError::custom("a datapoint without a value or a time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_about_the_last_hour_of_one_disk() {
        let form = form("shop-1", "2026-01-01T12:00:00Z".parse().unwrap());
        assert!(form.contains("Dimensions.member.1.Value=shop-1&StartTime=2026-01-01T11%3A00%3A00Z&"), "{form}");
        assert!(form.contains("EndTime=2026-01-01T12%3A01%3A00Z&Period=60&Statistics.member.1=Minimum"), "{form}");
    }

    #[test]
    fn datapoints_are_read_in_whatever_order_they_come() {
        let text = "<GetMetricStatisticsResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\
                    <GetMetricStatisticsResult><Label>FreeStorageSpace</Label><Datapoints>\
                    <member><Unit>Bytes</Unit><Minimum>1.2E10</Minimum><Timestamp>2026-01-01T11:59:00Z</Timestamp></member>\
                    <member><Timestamp>2026-01-01T11:58:00Z</Timestamp><Minimum>13.0</Minimum></member></Datapoints>\
                    </GetMetricStatisticsResult><ResponseMetadata/></GetMetricStatisticsResponse>";
        let found = datapoints(text).unwrap();
        assert_eq!(found[0], Datapoint { value: 1.2e10, at: "2026-01-01T11:59:00Z".to_owned() });
        assert_eq!(found.len(), 2);
        assert!(datapoints("<GetMetricStatisticsResponse><GetMetricStatisticsResult><Datapoints><member/>").is_err());
        let none = "<R><GetMetricStatisticsResult><Datapoints/></GetMetricStatisticsResult></R>";
        assert_eq!(datapoints(none).unwrap(), []);
    }
}
