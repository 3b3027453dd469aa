//! Preferences: the body that replaces somebody's, and what holds for whom and why.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use domain::delivery::Channel;
use domain::id::CategoryKey;
use domain::preference::StatedWish;
use domain::preference::{Cadence, Contact, DigestChoice, Preference, QuietChoice, Wish, parse_time};
#[cfg(feature = "services")]
use domain::preference::{Chosen, QuietHours, print_time};
use serde_json::Value;
#[cfg(feature = "services")]
use serde_json::json;
use std::collections::BTreeSet;

/// The most statements of one recipient.
pub const MAX_PREFERENCES: usize = 500;
/// What stands for every category, every channel, and no quiet hours.
const ALL: &str = "*";
/// What a statement says one of, at least.
pub(super) const SAYINGS: [&str; 5] = ["enabled", "cadence", "quiet_hours", "digest_time", "digest_weekday"];

/// Reads the body of a PUT of preferences: everything that is stated, in place of what was.
///
/// `contact` is a short form of two statements, about mail and text messages for every category.
pub fn read_preferences(body: &Value) -> Result<Vec<StatedWish>, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let contact = fields.named("contact", Contact::parse, Contact::ALL, Contact::as_str);
    let listed = fields.list("preferences").map(Vec::as_slice).unwrap_or_default();
    if listed.len() > MAX_PREFERENCES {
        fields.wrong("preferences", format_args!("must have at most {MAX_PREFERENCES} entries"));
    }
    let mut stated = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, entry) in listed.iter().take(MAX_PREFERENCES).enumerate() {
        let pointer = format!("/preferences/{place}");
        match read_statement(entry, &pointer) {
            Ok(wish) if seen.insert((wish.category.clone(), wish.channel)) => stated.push(wish),
            Ok(_) => fields.extend([FieldError::new(pointer, "is about the same category and channel as another")]),
            Err(errors) => fields.extend(errors),
        }
    }
    if let Some(contact) = contact {
        for (channel, is_on) in [Channel::Email, Channel::Sms].map(|channel| (channel, contact.wants(channel))) {
            if !seen.insert((None, Some(channel))) {
                fields.wrong("contact", format_args!("says the same as an entry about every category by {channel}"));
            }
            stated.push(StatedWish { category: None, channel: Some(channel), wish: Wish { is_on, ..Wish::default() } });
        }
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(stated)
}

/// Reads the body of a PUT of the tenant's preferences. When its digests leave is one of its settings.
#[cfg(feature = "services")]
pub fn read_tenant_preferences(body: &Value) -> Result<Vec<StatedWish>, Problem> {
    let stated = read_preferences(body)?;
    let mut wrong = Vec::new();
    for (place, StatedWish { wish, .. }) in stated.iter().enumerate() {
        let said = [("digest_time", wish.digest.time.is_some()), ("digest_weekday", wish.digest.weekday.is_some())];
        for (name, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
            let pointer = format!("/preferences/{place}/{name}");
            wrong.push(FieldError::new(pointer, "is a recipient's own; the tenant's is in PUT /v1/settings"));
        }
    }
    if wrong.is_empty() { Ok(stated) } else { Err(Problem::invalid(wrong)) }
}

fn read_statement(entry: &Value, pointer: &str) -> Result<StatedWish, Vec<FieldError>> {
    let mut fields = Fields::of(entry, pointer).map_err(|error| vec![error])?;
    let category = fields.parsed("category", |text| match text {
        ALL => Ok(None),
        key => CategoryKey::parse(key).map(Some),
    });
    let channel = fields.parsed("channel", |text| match text {
        ALL => Ok(None),
        name => Channel::parse(name).map(Some).ok_or_else(|| format!("must be * or one of {}", channel_names())),
    });
    let (category, channel) = (category.flatten(), channel.flatten());
    let wish = Wish {
        is_on: fields.value("enabled").is_some().then(|| fields.flag("enabled")),
        cadence: fields.named("cadence", Cadence::parse, Cadence::ALL, Cadence::as_str),
        quiet_hours: fields.object("quiet_hours", read_quiet_hours),
        digest: DigestChoice {
            time: fields.parsed("digest_time", parse_time),
            weekday: fields.number("digest_weekday", 1, 7).and_then(|day| i8::try_from(day).ok()),
        },
    };
    if SAYINGS.iter().all(|name| fields.value(name).is_none()) {
        fields.extend([FieldError::new(pointer, format_args!("must say one of {}", SAYINGS.join(", ")))]);
    }
    if category.is_some() || channel.is_some() {
        for name in ["digest_time", "digest_weekday"] {
            if fields.value(name).is_some() {
                fields.wrong(name, "is one for everything: it stands where both category and channel are *");
            }
        }
    }
    fields.finish()?;
    Ok(StatedWish { category, channel, wish })
}

/// `{"from": "22:00", "until": "07:00"}`; the same time twice says that there are none.
fn read_quiet_hours(value: &Value, pointer: String) -> Result<QuietChoice, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let from = fields.parsed("from", parse_time);
    fields.require("from", &from);
    let until = fields.parsed("until", parse_time);
    fields.require("until", &until);
    fields.finish()?;
    from.zip(until).map(|(from, until)| QuietChoice::of(from, until)).ok_or_else(Vec::new)
}

fn channel_names() -> String {
    Channel::ALL.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ")
}

/// What holds for one category and channel.
#[derive(Clone, Debug)]
pub struct HeldPreference {
    /// The category.
    pub category: String,
    /// The channel.
    pub channel: Channel,
    /// What holds.
    pub preference: Preference,
}

/// What was stated, and what holds for each category and channel and where it comes from.
#[cfg(feature = "services")]
pub fn print_preferences(stated: &[StatedWish], held: &[HeldPreference]) -> Value {
    // In the one word only what was said of every category counts.
    let wants = |channel| {
        let about = stated.iter().filter(|wish| wish.category.is_none() && wish.wish.is_on.is_some());
        let exact = about.clone().find(|wish| wish.channel == Some(channel));
        exact.or_else(|| about.clone().find(|wish| wish.channel.is_none())).and_then(|wish| wish.wish.is_on)
    };
    let contact = Contact::of(wants(Channel::Email).unwrap_or(true), wants(Channel::Sms).unwrap_or(true));
    json!({
        "contact": contact.as_str(),
        "preferences": stated.iter().map(print_statement).collect::<Value>(),
        "effective": held.iter().map(print_held).collect::<Value>(),
    })
}

#[cfg(feature = "services")]
fn print_statement(stated: &StatedWish) -> Value {
    let StatedWish { category, channel, wish: Wish { is_on, cadence, quiet_hours, digest } } = stated;
    json!({
        "category": category.as_ref().map_or(ALL, |key| key.as_str()),
        "channel": channel.map_or(ALL, Channel::as_str),
        "enabled": is_on,
        "cadence": cadence.map(Cadence::as_str),
        "quiet_hours": quiet_hours.map(|choice| {
            let (from, until) = choice.times();
            json!({"from": print_time(from), "until": print_time(until)})
        }),
        "digest_time": digest.time.map(print_time),
        "digest_weekday": digest.weekday,
    })
}

#[cfg(feature = "services")]
fn print_held(held: &HeldPreference) -> Value {
    fn chosen<T: Copy>(chosen: Chosen<T>, print: impl Fn(T) -> Value) -> Value {
        json!({"value": print(chosen.value), "from": chosen.origin.as_str()})
    }
    let HeldPreference { category, channel, preference: Preference { is_on, cadence, quiet_hours, mandatory_for } } =
        held;
    json!({
        "category": category,
        "channel": channel.as_str(),
        "enabled": chosen(*is_on, Value::Bool),
        "cadence": chosen(*cadence, |cadence| Value::from(cadence.as_str())),
        "quiet_hours": chosen(*quiet_hours, |choice| match choice {
            QuietChoice::None => Value::Null,
            QuietChoice::Hours(QuietHours { from, until }) => {
                json!({"from": print_time(from), "until": print_time(until)})
            }
        }),
        "mandatory_for": mandatory_for,
    })
}
