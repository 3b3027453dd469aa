//! A tenant's settings.

use super::categories::{print_limit, read_limit};
use super::fields::Fields;
use super::problem::Problem;
use crate::store::settings::Settings;
use domain::decision::DigestTime;
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::preference::{parse_time, print_time};
use serde_json::{Value, json};

/// Reads the body of `PUT /v1/settings`: everything, so that what is silent is the default again.
pub fn read_settings(body: &Value) -> Result<Settings, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let frequency_cap = fields.object("frequency_cap", read_limit);
    let default = Settings::default();
    let time = fields.parsed("digest_time", parse_time);
    let weekday = fields.number("digest_weekday", 1, 7).and_then(|day| i8::try_from(day).ok());
    let locale = fields.parsed("locale", Locale::parse);
    let time_zone = fields.parsed("time_zone", TimeZoneName::parse);
    fields.finish().map_err(Problem::invalid)?;
    Ok(Settings {
        frequency_cap,
        digest: DigestTime {
            time: time.unwrap_or(default.digest.time),
            weekday: weekday.unwrap_or(default.digest.weekday),
        },
        locale: locale.unwrap_or(default.locale),
        time_zone: time_zone.unwrap_or(default.time_zone),
    })
}

/// A tenant's settings.
pub fn print_settings(settings: &Settings) -> Value {
    let Settings { frequency_cap, digest: DigestTime { time, weekday }, locale, time_zone } = settings;
    json!({
        "frequency_cap": frequency_cap.map(print_limit), "digest_time": print_time(*time), "digest_weekday": weekday,
        "locale": locale.as_str(), "time_zone": time_zone.as_str(),
    })
}
