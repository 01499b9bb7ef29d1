//! Rules of Telemetry and ProxyConfig.

use super::common;
use crate::istio::{
    AccessLogging, Metrics, ProviderRef, ProxyConfig, TagOperation, Telemetry, Tracing,
    error::{At, Findings},
};

pub(super) fn check(spec: &Telemetry, at: &At<'_>, f: &mut Findings) {
    common::workload_selector(&at.field("selector"), spec.selector.as_ref(), f);
    common::targets(
        at,
        spec.selector.is_some(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        f,
    );
    for (i, entry) in spec.tracing.iter().enumerate() {
        tracing(&at.field("tracing").index(i), entry, f);
    }
    for (i, entry) in spec.metrics.iter().enumerate() {
        metrics(&at.field("metrics").index(i), entry, f);
    }
    for (i, entry) in spec.access_logging.iter().enumerate() {
        access_logging(&at.field("accessLogging").index(i), entry, f);
    }
}

fn providers(at: &At<'_>, list: &[ProviderRef], f: &mut Findings) {
    for (i, provider) in list.iter().enumerate() {
        if provider.name.is_empty() {
            f.error(
                &at.index(i).field("name"),
                "is missing; write the name of an extension provider",
            );
        }
    }
}

fn tracing(at: &At<'_>, entry: &Tracing, f: &mut Findings) {
    providers(&at.field("providers"), &entry.providers, f);
    if entry.providers.len() > 1 {
        f.error(&at.field("providers"), "only one provider is allowed for traces");
    }
    if entry
        .random_sampling_percentage
        .is_some_and(|share| !(0.0..=100.0).contains(&share))
    {
        f.error(&at.field("randomSamplingPercentage"), "must be from 0 to 100");
    }
    for (name, tag) in &entry.custom_tags {
        let at = at.field("customTags");
        let at = at.field(name);
        if name.is_empty() {
            f.error(&at, "a tag needs a name");
        }
        let set = [
            tag.literal.is_some(),
            tag.environment.is_some(),
            tag.header.is_some(),
            tag.formatter.is_some(),
        ];
        if set.iter().filter(|set| **set).count() != 1 {
            f.error(
                &at,
                "exactly one of literal, environment, header and formatter must be set",
            );
        }
        for (field, value) in [
            ("environment", tag.environment.as_ref().map(|t| &t.name)),
            ("header", tag.header.as_ref().map(|t| &t.name)),
        ] {
            if value.is_some_and(String::is_empty) {
                f.error(&at.field(field).field("name"), "is missing");
            }
        }
        for (field, value) in [("literal", &tag.literal), ("formatter", &tag.formatter)] {
            if value.as_ref().is_some_and(|t| t.value.is_empty()) {
                f.error(&at.field(field).field("value"), "is missing");
            }
        }
    }
}

fn metrics(at: &At<'_>, entry: &Metrics, f: &mut Findings) {
    providers(&at.field("providers"), &entry.providers, f);
    common::duration(&at.field("reportingInterval"), entry.reporting_interval, f);
    for (i, change) in entry.overrides.iter().enumerate() {
        let at = at.field("overrides");
        let at = at.index(i);
        if let Some(selector) = &change.r#match {
            if selector.metric.is_some() && selector.custom_metric.is_some() {
                f.error(&at.field("match"), "only one of metric and customMetric can be set");
            }
            if selector.custom_metric.as_ref().is_some_and(String::is_empty) {
                f.error(&at.field("match").field("customMetric"), "must not be empty");
            }
        }
        for (name, tag) in &change.tag_overrides {
            let at = at.field("tagOverrides");
            let at = at.field(name);
            match (tag.operation, tag.value.is_empty()) {
                (TagOperation::Upsert, true) => f.error(&at.field("value"), "is missing; UPSERT needs an expression"),
                (TagOperation::Remove, false) => f.error(&at.field("value"), "cannot be set with REMOVE"),
                _ => {}
            }
        }
    }
}

fn access_logging(at: &At<'_>, entry: &AccessLogging, f: &mut Findings) {
    providers(&at.field("providers"), &entry.providers, f);
    if entry.filter.as_ref().is_some_and(|filter| filter.expression.is_empty()) {
        f.error(
            &at.field("filter").field("expression"),
            "is missing; write an expression such as response.code >= 400",
        );
    }
}

pub(super) fn proxy_config(spec: &ProxyConfig, at: &At<'_>, f: &mut Findings) {
    common::workload_selector(&at.field("selector"), spec.selector.as_ref(), f);
    if let Some(threads) = spec.concurrency {
        common::not_negative(&at.field("concurrency"), threads, f);
    }
    if let Some(image) = &spec.image
        && !matches!(image.image_type.as_str(), "" | "default" | "debug" | "distroless")
    {
        f.error(
            &at.field("image").field("imageType"),
            format!(
                "{:?} is no image type; write default, debug or distroless",
                image.image_type
            ),
        );
    }
}
