//! `pgstream-aws monitor`: what the Lambda does, from wherever the source can be reached.

use std::{io::IsTerminal as _, time::Duration};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use console::{Term, style};
use indicatif::HumanBytes;
use pgstream_aws_api::Aws;
use pgstream_config::Needs;
use pgstream_engine::source::{Names, slot::WalStatus};
use pgstream_monitor::{
    Sample, Settings, SlotSample, Watcher, prometheus, publish,
    series::Series,
    valve::{Hands, Valve},
};
use pgstream_postgres::Server;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, Common, MonitorTo},
    configure,
    failure::Failure,
    output, rds,
};

/// Between the two looks of a single run: rates need two.
const BETWEEN: Duration = Duration::from_secs(2);

/// Columns of the drawing.
const WIDTH: usize = 48;

/// Looks once, or again and again. Returns whether nothing is wrong with the slot.
pub async fn run(arguments: &arguments::Monitor, common: &Common, cancel: &CancellationToken) -> Result<bool, Failure> {
    let mut overrides = arguments.source.overrides(common);
    overrides.target_url.clone_from(&arguments.target_url);
    let loaded = configure::configuration(common, &overrides, Needs::Source)?;
    let source = configure::source(&loaded).await?;
    let target = configure::target(&loaded).await?;
    let database = source.dsn().dbname().to_owned();
    let slot = Names::with_slot(&database, loaded.pipeline.source.slot.as_deref())?.slot;
    let instance = arguments.rds_instance.clone().or_else(|| rds::instance_of_host(&source));
    let valve = valve(arguments)?;
    if valve.is_some() && instance.is_none() {
        return Err(Failure::ValveWithoutInstance);
    }
    let aws = match arguments.to == MonitorTo::Cloudwatch || instance.is_some() {
        true => Some(Box::pin(Aws::load(&pgstream_aws_api::Settings::default())).await?),
        false => None,
    };
    let monitor = Monitor { to: arguments.to, source, target, instance, aws };
    let mut watcher = Watcher::new(Settings { slot, database }).with_valve(valve);
    let Some(every) = arguments.every else {
        // The first look is only for the second one, unless it sees nothing.
        let mut sample = Box::pin(monitor.look(&mut watcher)).await;
        if sample.up {
            tokio::time::sleep(BETWEEN).await;
            sample = Box::pin(monitor.look(&mut watcher)).await;
        }
        monitor.tell(&sample, &watcher).await?;
        return Ok(is_well(&sample));
    };
    let mut tick = tokio::time::interval(Duration::from_secs(every));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = cancel.cancelled() => return Ok(true),
        }
        let sample = tokio::select! {
            sample = Box::pin(monitor.look(&mut watcher)) => sample,
            () = cancel.cancelled() => return Ok(true),
        };
        // The next values are as good as these.
        if let Err(error) = monitor.tell(&sample, &watcher).await {
            tracing::error!(%error, "the metrics were not published");
        }
    }
}

/// The safety valve that the flags ask for.
fn valve(arguments: &arguments::Monitor) -> Result<Option<Valve>, Failure> {
    let bytes = |size: Option<u64>| size.map(|size| size as f64);
    let valve = Valve {
        notify_below: bytes(arguments.notify_below),
        pause_below: bytes(arguments.pause_copy_below),
        drop_below: bytes(arguments.drop_slot_below),
    };
    valve.checked().map_err(Failure::Valve)
}

struct Monitor {
    to: MonitorTo,
    source: Server,
    target: Option<Server>,
    instance: Option<String>,
    aws: Option<Aws>,
}

impl Monitor {
    async fn look(&self, watcher: &mut Watcher) -> Sample {
        let free = async {
            match (&self.aws, &self.instance) {
                (Some(aws), Some(instance)) => publish::free_storage(aws, instance).await,
                _ => Series::default(),
            }
        };
        match Box::pin(watcher.look(&self.source, self.target.as_ref(), free)).await {
            Ok(mut sample) => {
                let hands = Hands { source: Some(&self.source), target: self.target.as_ref() };
                Box::pin(watcher.let_off(&mut sample, hands)).await;
                sample
            }
            Err(blind) => {
                tracing::error!(error = %blind, "the source does not answer");
                watcher.blind(&blind)
            }
        }
    }

    async fn tell(&self, sample: &Sample, watcher: &Watcher) -> Result<(), Failure> {
        match self.to {
            MonitorTo::Terminal => draw(sample, watcher),
            MonitorTo::Json => output::json_line(sample)?,
            MonitorTo::Prometheus => output::line(prometheus::text(sample).trim_end()),
            MonitorTo::Cloudwatch => {
                if let Some(aws) = &self.aws {
                    Box::pin(publish::publish(aws, sample)).await?;
                    tracing::info!(up = sample.up, slots = sample.slots.len(), "published");
                }
            }
        }
        Ok(())
    }
}

/// Our slot is there, read, and keeps what it needs.
fn is_well(sample: &Sample) -> bool {
    let kept = |slot: &SlotSample| !matches!(slot.wal_status, Some(WalStatus::Unreserved | WalStatus::Lost));
    sample.up && sample.ours().is_some_and(|slot| slot.active == Some(true) && kept(slot))
}

/// The table, over the one before on a terminal.
fn draw(sample: &Sample, watcher: &Watcher) {
    let terminal = Term::stdout();
    if std::io::stdout().is_terminal() {
        // A terminal that cannot be cleared shows one table below the other.
        let _ = terminal.clear_screen();
    }
    output::line(table(sample));
    if let Some(picture) = picture(watcher.lag()) {
        output::line(format_args!("lag  {picture}"));
    }
    for (good, text) in words(sample) {
        output::line(if good { style(text).green() } else { style(text).red() });
    }
}

fn table(sample: &Sample) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let bytes = |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |b| HumanBytes(b as u64).to_string());
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), span);
    table.set_header(["slot", "reader", "wal_status", "kept", "lag", "behind", "until lost", "full in"]);
    for slot in &sample.slots {
        let reader = match (slot.missing, slot.active) {
            (true, _) => "missing".to_owned(),
            (_, Some(true)) => "yes".to_owned(),
            (_, Some(false)) => slot.inactive_seconds.map_or("none".to_owned(), |s| format!("none, {}", span(s))),
            (_, None) => "-".to_owned(),
        };
        let status = slot.wal_status.map_or("-", WalStatus::name);
        table.add_row([
            slot.name.clone(),
            reader,
            status.to_owned(),
            bytes(slot.retained_wal_bytes),
            bytes(slot.confirmed_flush_lag_bytes),
            seconds(slot.seconds_behind),
            bytes(slot.safe_wal_bytes),
            seconds(slot.hours_to_full.map(|hours| hours * 3600.0)),
        ]);
    }
    table
}

/// The rates, and what is wrong.
fn words(sample: &Sample) -> Vec<(bool, String)> {
    let mut words = Vec::new();
    if let Some(error) = &sample.error {
        words.push((false, format!("{} does not answer: {error}", sample.database)));
        return words;
    }
    if let Some(rate) = sample.wal_bytes_per_second {
        words.push((true, format!("{} writes {} of WAL a second", sample.database, HumanBytes(rate as u64))));
    }
    if let Some(free) = sample.free_storage_bytes {
        words.push((true, format!("{} free on its disk", HumanBytes(free as u64))));
    }
    let Some(ours) = sample.ours() else { return words };
    match (ours.missing, ours.active, ours.wal_status) {
        (true, ..) => words.push((false, format!("slot {} does not exist: run `pgstream-aws status`", ours.name))),
        (_, _, Some(WalStatus::Lost)) => {
            words.push((false, format!("slot {} is lost: only a new copy helps (`pgstream-aws status`)", ours.name)));
        }
        (_, _, Some(WalStatus::Unreserved)) => {
            words.push((false, format!("slot {} is about to be lost: start `pgstream-aws run` at once", ours.name)));
        }
        (_, Some(false), _) => {
            words.push((false, format!("nobody reads slot {}: WAL piles up until `pgstream-aws run` does", ours.name)));
        }
        _ => {}
    }
    words
}

/// Two units are enough: `3 h 20 min`.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// The series as one line, its greatest value at the end of it.
fn picture(series: &Series) -> Option<String> {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points: Vec<f64> = series.points().map(|point| point.value).collect();
    let shown = &points[points.len().saturating_sub(WIDTH)..];
    if shown.len() < 3 {
        return None;
    }
    let most = shown.iter().copied().fold(0.0, f64::max);
    let level = |value: f64| if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
    let drawn: String = shown.iter().map(|value| LEVELS[level(*value).min(7)]).collect();
    Some(format!("{drawn}  up to {}", HumanBytes(most as u64)))
}

#[cfg(test)]
mod tests {
    use pgstream_monitor::series::Point;

    use super::*;

    #[test]
    fn a_trend_is_drawn_once_there_is_one() {
        let mut series = Series::default();
        for (at, value) in [(0.0, 0.0), (1.0, 512.0)] {
            series.push(Point { at, value });
        }
        assert_eq!(picture(&series), None);
        series.push(Point { at: 2.0, value: 1024.0 });
        assert_eq!(picture(&series).unwrap(), "▁▅█  up to 1.00 KiB");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([5.0, 600.0, 7200.0, 864_000.0].map(span), ["5 s", "10 min", "2 h", "10 d"]);
    }
}
