//! The stream's metrics on their way to CloudWatch, every minute and once at the end.

use std::sync::Arc;

use jiff::Timestamp;
use pgstream_aws_api::{Aws, Settings};
use pgstream_config::pipeline::{CloudWatchMetrics, MetricsTo};
use pgstream_engine::stream::status::{Monitor, Reading};
use pgstream_monitor::{emf, publish, stream::Counted};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{failure::Failure, output};

/// Tells what a stream counted since it told last.
pub struct Metrics {
    way: Way,
    interval: std::time::Duration,
    slot: String,
    database: String,
    monitor: Arc<Monitor>,
    told: Reading,
}

enum Way {
    Emf,
    CloudWatch(Box<Aws>),
}

impl Metrics {
    /// # Errors
    /// CloudWatch is wanted, and no region is set.
    pub async fn new(
        settings: CloudWatchMetrics,
        (slot, database): (String, String),
        monitor: Arc<Monitor>,
    ) -> Result<Self, Failure> {
        let way = match settings.to {
            MetricsTo::Emf => Way::Emf,
            MetricsTo::CloudWatch => Way::CloudWatch(Box::new(Box::pin(Aws::load(&Settings::default())).await?)),
        };
        let told = monitor.read();
        Ok(Self { way, interval: settings.interval, slot, database, monitor, told })
    }

    async fn follow(&mut self) -> std::convert::Infallible {
        let mut tick = interval_at(Instant::now() + self.interval, self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.tell(None).await;
        }
    }

    /// Tells again and again, where there is something to tell.
    pub async fn follow_if(metrics: Option<&mut Self>) -> std::convert::Infallible {
        match metrics {
            Some(metrics) => metrics.follow().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the last time, with the error that ended the stream, if one did.
    pub async fn end(mut self, failure: Option<&Failure>) {
        use miette::Diagnostic as _;
        let code = failure.map(|failure| failure.code().map_or_else(|| "unknown".to_owned(), |code| code.to_string()));
        self.tell(code).await;
    }

    async fn tell(&mut self, error: Option<String>) {
        let now = self.monitor.read();
        let counted = Counted::between(self.told.clone(), now.clone()).ended(error);
        match &self.way {
            Way::Emf => {
                output::line(emf::line(&self.slot, &self.database, &counted, Timestamp::now().as_millisecond()));
            }
            // What is not told now is told with what comes.
            Way::CloudWatch(aws) => {
                if let Err(error) = Box::pin(publish::publish_stream(aws, &self.slot, &self.database, &counted)).await {
                    tracing::warn!(%error, "the metrics were not published");
                    return;
                }
            }
        }
        self.told = now;
    }
}
