//! To and from CloudWatch.

use pgstream_aws_api::{
    Aws, Error,
    cloudwatch::{CloudWatch, Datum},
};

use crate::{
    NAMESPACE,
    metrics::{Metric, of},
    sample::Sample,
    series::{Point, Series},
    stream::{self, Counted},
};

/// Publishes a sample, in one call where it fits.
///
/// # Errors
/// CloudWatch does not take it, after retries.
pub async fn publish(aws: &Aws, sample: &Sample) -> Result<(), Error> {
    let data: Vec<Datum> =
        of(sample).into_iter().map(|value| datum(value.metric, value.value, value.slot, &sample.database)).collect();
    Box::pin(CloudWatch::of(aws).put(NAMESPACE, &data)).await
}

/// Publishes what a stream counted. An error is counted with its code, too.
///
/// # Errors
/// CloudWatch does not take it, after retries.
pub async fn publish_stream(aws: &Aws, slot: &str, database: &str, counted: &Counted) -> Result<(), Error> {
    let mut data: Vec<Datum> = stream::of(counted)
        .into_iter()
        .map(|(metric, value)| datum(metric, value, slot.to_owned(), database))
        .collect();
    if let Some(code) = &counted.error {
        let mut error = datum(&stream::ERRORS, 1.0, slot.to_owned(), database);
        error.dimensions.push(("Code", code.clone()));
        data.push(error);
    }
    Box::pin(CloudWatch::of(aws).put(NAMESPACE, &data)).await
}

fn datum(metric: &Metric, value: f64, slot: String, database: &str) -> Datum {
    let dimensions = vec![("Slot", slot), ("Database", database.to_owned())];
    Datum { name: metric.name, unit: metric.unit.name(), value, dimensions }
}

/// Free bytes on the disk of an instance, over the last hour. What cannot be asked is not known.
pub async fn free_storage(aws: &Aws, instance: &str) -> Series {
    let mut series = Series::default();
    match Box::pin(CloudWatch::of(aws).free_storage_history(instance)).await {
        Ok(history) => history.into_iter().for_each(|(at, value)| series.push(Point { at, value })),
        Err(error) => tracing::warn!(instance, %error, "CloudWatch does not say how much storage is free"),
    }
    series
}
