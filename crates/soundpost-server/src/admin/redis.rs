//! `soundpost_redis_*`: what the adapter of a node that is one of several tells of itself.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::metrics::{family, gauge};
use crate::adapter::{
    Adapter,
    redis::{PUBLISH_BYTES_MAX, PUBLISHES_MAX, RedisMetrics},
};

#[derive(Clone, Debug, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Nothing of a node that is alone.
pub(super) fn encode(adapter: &Adapter, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    adapter.redis_metrics().map_or(Ok(()), |metrics| tell(metrics, !adapter.is_away(), encoder))
}

fn tell(
    metrics: &RedisMetrics,
    is_connected: bool,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    gauge(encoder, "soundpost_redis_connected", "Whether Redis is there", u64::from(is_connected))?;
    counters(metrics, encoder)?;
    let help = "From taking an event to the answer of Redis";
    let name = "soundpost_redis_publish_seconds";
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metrics.publish_seconds.encode(metric)?;
    gauges(metrics, encoder)
}

fn counters(metrics: &RedisMetrics, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let by_result = [
        ("accepted", &metrics.accepted),
        ("refused", &metrics.refused),
        ("withdrawn", &metrics.withdrawn),
        ("unconfirmed", &metrics.unconfirmed),
    ]
    .map(|(result, count)| (ResultLabel { result }, count.value()));
    let help = "Events for Redis, one for each channel";
    family(encoder, "soundpost_redis_publishes", help, MetricType::Counter, by_result.into_iter())?;
    for (name, help, count) in [
        ("soundpost_redis_received", "Messages heard from all nodes", &metrics.received),
        ("soundpost_redis_gaps", "Events of other nodes that were missed", &metrics.gaps),
        ("soundpost_redis_duplicates", "Events that came twice and were dropped", &metrics.duplicates),
        ("soundpost_redis_unknown_messages", "Messages of newer nodes, dropped", &metrics.unknown),
        ("soundpost_redis_malformed_messages", "Messages that were none, dropped", &metrics.malformed),
        ("soundpost_redis_errors", "Scripts and commands that Redis refused", &metrics.errors),
        ("soundpost_redis_deaths", "Nodes that were found dead", &metrics.deaths),
        ("soundpost_redis_renewals", "Times this node was taken for dead, or Redis was", &metrics.renewals),
    ] {
        counter(encoder, name, help, count.value())?;
    }
    let reconnects = metrics.connects.value().saturating_sub(1);
    counter(encoder, "soundpost_redis_reconnects", "Times Redis was reached again", reconnects)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauges(metrics: &RedisMetrics, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    for (name, help, value) in [
        ("soundpost_redis_queued", "Events that wait for Redis", metrics.publishes.items.value()),
        ("soundpost_redis_queued_max", "How many may", PUBLISHES_MAX as u64),
        ("soundpost_redis_queued_bytes", "Bytes of these events", metrics.publishes.bytes.value()),
        ("soundpost_redis_queued_bytes_max", "How many there may be", PUBLISH_BYTES_MAX as u64),
        ("soundpost_redis_asks", "Requests of channels that wait for Redis", metrics.asks.value()),
        ("soundpost_redis_in_flight", "Commands that are not answered yet", metrics.in_flight.items.value()),
        ("soundpost_redis_in_flight_bytes", "Their bytes", metrics.in_flight.bytes.value()),
    ] {
        gauge(encoder, name, help, value)?;
    }
    let help = "Time since the lease of this node was renewed, or since its start";
    let metric =
        encoder.encode_descriptor("soundpost_redis_lease_age_seconds", help, None, MetricType::Gauge)?;
    ConstGauge::new(metrics.lease_age_seconds()).encode(metric)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use prometheus_client::{collector::Collector, encoding::text::encode, registry::Registry};

    use super::*;

    #[derive(Debug)]
    struct Of(Arc<RedisMetrics>);

    impl Collector for Of {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            tell(&self.0, true, &mut encoder)
        }
    }

    fn scrape(metrics: &Arc<RedisMetrics>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Of(Arc::clone(metrics))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn every_number_has_its_line() {
        let metrics = Arc::new(RedisMetrics::default());
        metrics.withdrawn.add(3);
        metrics.connects.add(2);
        metrics.publish_seconds.observe(0.000_7);
        metrics.publish_seconds.observe(3.0);
        metrics.leased(Instant::now());
        let text = scrape(&metrics);
        for line in [
            "soundpost_redis_connected 1",
            r#"soundpost_redis_publishes_total{result="withdrawn"} 3"#,
            r#"soundpost_redis_publishes_total{result="accepted"} 0"#,
            r#"soundpost_redis_publish_seconds_bucket{le="0.0005"} 0"#,
            r#"soundpost_redis_publish_seconds_bucket{le="0.00075"} 1"#,
            r#"soundpost_redis_publish_seconds_bucket{le="+Inf"} 2"#,
            "soundpost_redis_publish_seconds_count 2",
            "soundpost_redis_reconnects_total 1",
            "soundpost_redis_queued_max 65536",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(text.contains("\nsoundpost_redis_lease_age_seconds 0."), "{text}");
    }
}
