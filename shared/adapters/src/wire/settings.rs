//! A tenant's settings.

use super::categories::{print_limit, read_limit};
use super::fields::{FieldError, Fields};
use super::problem::Problem;
use crate::store::settings::Settings;
use domain::category::Class;
use domain::decision::DigestTime;
use domain::id::CategoryKey;
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::preference::{parse_time, print_time};
use domain::retention::{LEAST_DAYS, MOST_DAYS, Retention};
use serde_json::{Value, json};

/// Reads the body of `PUT /v1/settings`: everything, so that what is silent is the default again.
pub fn read_settings(body: &Value) -> Result<Settings, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let frequency_cap = fields.object("frequency_cap", read_limit);
    let default = Settings::default();
    let time = fields.parsed("digest_time", parse_time);
    let weekday = fields.number("digest_weekday", 1, 7).and_then(|day| i8::try_from(day).ok());
    let retention = fields.object("retention", read_retention);
    let digest_category = fields.parsed("digest_category", CategoryKey::parse);
    let locale = fields.parsed("locale", Locale::parse);
    let time_zone = fields.parsed("time_zone", TimeZoneName::parse);
    fields.finish().map_err(Problem::invalid)?;
    Ok(Settings {
        frequency_cap,
        digest: DigestTime {
            time: time.unwrap_or(default.digest.time),
            weekday: weekday.unwrap_or(default.digest.weekday),
        },
        retention: retention.unwrap_or(default.retention),
        digest_category,
        locale: locale.unwrap_or(default.locale),
        time_zone: time_zone.unwrap_or(default.time_zone),
    })
}

/// A tenant's settings.
pub fn print_settings(settings: &Settings) -> Value {
    let Settings { frequency_cap, digest, digest_category, retention, locale, time_zone } = settings;
    json!({
        "frequency_cap": frequency_cap.map(print_limit),
        "digest_time": print_time(digest.time), "digest_weekday": digest.weekday,
        "digest_category": digest_category.as_ref().map(|key| key.as_str()),
        "retention": print_retention(retention), "locale": locale.as_str(), "time_zone": time_zone.as_str(),
    })
}

fn read_retention(value: &Value, pointer: String) -> Result<Retention, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let default_days = fields.number("default_days", LEAST_DAYS, MOST_DAYS);
    let by_class = fields.object("by_class", |value, pointer| {
        let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
        let days = Class::ALL
            .iter()
            .filter_map(|class| Some((*class, fields.number(class.as_str(), LEAST_DAYS, MOST_DAYS)?)))
            .collect();
        fields.finish().map(|()| days)
    });
    fields.finish()?;
    let default = Retention::default();
    Ok(Retention {
        default_days: default_days.unwrap_or(default.default_days),
        by_class: by_class.unwrap_or(default.by_class),
    })
}

fn print_retention(retention: &Retention) -> Value {
    let Retention { default_days, by_class } = retention;
    let by_class: Value = by_class.iter().map(|(class, days)| (class.as_str().to_owned(), json!(days))).collect();
    json!({"default_days": default_days, "by_class": by_class})
}
