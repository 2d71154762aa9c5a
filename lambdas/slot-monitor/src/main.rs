//! The slot monitor as a Lambda function: one look for every event, whatever the event says.
//!
//! ```text
//!  schedule ──> event ──> secret (kept while it works) ──> look ──> PutMetricData ──> what was published, as the answer
//!                              what was seen before stays in the warm process, for rates
//! ```
//!
//! A source that does not answer is a result (`Up` = 0); only metrics that could not be published make a run fail.

mod settings;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use pgstream_aws_api::{Aws, access};
use pgstream_config::pipeline::Access;
use pgstream_monitor::{Sample, Watcher, publish, series::Series, valve::Hands};
use pgstream_postgres::Server;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;
use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Below warnings, the driver writes out values and the signer what it signs.
    let filter = EnvFilter::new("warn,slot_monitor=info,pgstream_monitor=info");
    tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_env_filter(filter).init();
    let settings = match Settings::from_environment(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(%error, "the function's environment cannot be used");
            return ExitCode::FAILURE;
        }
    };
    let monitor = Mutex::new(Monitor::new(settings));
    let run = |_: LambdaEvent<IgnoredAny>| async { monitor.lock().await.run().await };
    match lambda_runtime::run(service_fn(run)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the runtime ended");
            ExitCode::FAILURE
        }
    }
}

struct Monitor {
    settings: Settings,
    watcher: Watcher,
    aws: Option<Aws>,
    source: Option<Server>,
    target: Option<Server>,
    /// The source, with a login that may drop the slot.
    valve: Option<Server>,
}

impl Monitor {
    fn new(settings: Settings) -> Self {
        let watcher = Watcher::new(settings.watched.clone()).with_valve(settings.valve);
        Self { settings, watcher, aws: None, source: None, target: None, valve: None }
    }

    async fn run(&mut self) -> Result<Sample, lambda_runtime::Error> {
        let aws = match &self.aws {
            Some(aws) => aws.clone(),
            None => {
                let aws = Box::pin(Aws::load(&pgstream_aws_api::Settings::default())).await?;
                self.aws.insert(aws).clone()
            }
        };
        let sample = self.sample(&aws).await;
        Box::pin(publish::publish(&aws, &sample)).await?;
        Ok(sample)
    }

    async fn sample(&mut self, aws: &Aws) -> Sample {
        if let Err(error) = self.open().await {
            tracing::error!(%error, "the source's secret cannot be used");
            return self.watcher.blind(&error);
        }
        let Some(source) = &self.source else { return self.watcher.blind(&"no source") };
        let instance = self.settings.instance.as_deref();
        let free = async {
            match instance {
                Some(instance) => publish::free_storage(aws, instance).await,
                None => Series::default(),
            }
        };
        match Box::pin(self.watcher.look(source, self.target.as_ref(), free)).await {
            Ok(mut sample) => {
                let hands = Hands { source: self.valve.as_ref(), target: self.target.as_ref() };
                Box::pin(self.watcher.let_off(&mut sample, hands)).await;
                sample
            }
            Err(blind) => {
                tracing::error!(error = %blind, "the source does not answer");
                // Its secret may name another host by now, or another login.
                self.source = None;
                self.watcher.blind(&blind)
            }
        }
    }

    /// Reads the secrets that are not known yet.
    async fn open(&mut self) -> Result<(), access::AccessError> {
        let others = [(&mut self.target, &self.settings.target_secret), (&mut self.valve, &self.settings.valve_secret)];
        for (known, secret) in others {
            if let (None, Some(secret)) = (&known, secret) {
                match Box::pin(server(secret)).await {
                    Ok(server) => *known = Some(server),
                    Err(error) => tracing::warn!(%error, "a secret cannot be used"),
                }
            }
        }
        if self.source.is_none() {
            let server = Box::pin(server(&self.settings.source_secret)).await?;
            self.source = Some(server.with_dbname(&self.settings.watched.database));
        }
        Ok(())
    }
}

async fn server(secret: &str) -> Result<Server, access::AccessError> {
    let named = Access::Secret { secret: secret.to_owned(), identifier: None };
    access::server(&format!("secretsmanager://{secret}").into(), &named).await
}
