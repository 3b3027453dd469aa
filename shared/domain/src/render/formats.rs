//! Dates, times, numbers and money as a recipient writes them.
//!
//! Patterns, names and digits are CLDR's, through ICU4X with its data compiled in; only the Gregorian calendar is linked.

use std::borrow::Cow;

use fixed_decimal::{Decimal, UnsignedRoundingMode};
use icu_calendar::{Date, Gregorian};
use icu_datetime::FixedCalendarDateTimeFormatter;
use icu_datetime::fieldsets::{T, YMD, YMDE};
use icu_decimal::DecimalFormatter;
use icu_experimental::dimension::currency::CurrencyType;
use icu_experimental::dimension::currency::formatter::CurrencyFormatter;
use icu_experimental::dimension::percent::formatter::PercentFormatter;
use icu_time::{DateTime, Time};
use jiff::civil;
use minijinja::value::{Object, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::work::{charge, unfit};
use crate::locale::Locale;
use crate::moment::{TimeZoneName, parse_timestamp};

/// Under this name the engine knows the recipient's formats; a template cannot write it.
pub(super) const GLOBAL: &str = " formats";

/// What a call counts beside its text: finding a locale's pattern takes some microseconds.
const FORMAT_BYTES: usize = 1024;

/// The most digits that a number may have before its point, and the most after it.
const MAX_DIGITS: usize = 40;

/// The language and the time zone that a recipient reads in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// The language of names, patterns and digits.
    pub locale: Locale,
    /// The zone that moments are shown in.
    pub time_zone: TimeZoneName,
}

impl Formats {
    /// The formats of a recipient as they are stored; English and UTC stand in for what is no locale or zone.
    pub fn of(locale: &str, time_zone: &str) -> Self {
        let default = Self::default();
        Self {
            locale: Locale::parse(locale).unwrap_or(default.locale),
            time_zone: TimeZoneName::parse(time_zone).unwrap_or(default.time_zone),
        }
    }
}

impl Default for Formats {
    /// English and UTC.
    fn default() -> Self {
        Self {
            locale: Locale::parse("en").expect("a language of two letters is a locale"),
            time_zone: TimeZoneName::parse("UTC").expect("every database has UTC"),
        }
    }
}

impl Object for Formats {}

/// How much of a date or time is shown.
#[derive(Clone, Copy)]
enum Length {
    Short,
    Medium,
    Long,
    Full,
}

impl Length {
    fn read(value: Option<Value>, default: Self) -> Result<Self, Error> {
        let Some(value) = value else { return Ok(default) };
        match value.as_str() {
            Some("short") => Ok(Self::Short),
            Some("medium") => Ok(Self::Medium),
            Some("long") => Ok(Self::Long),
            Some("full") => Ok(Self::Full),
            _ => Err(unfit("the length must be 'short', 'medium', 'long' or 'full'")),
        }
    }
}

/// A date that a template was given, with its time of day where it has one.
struct Moment {
    date: Date<Gregorian>,
    time: Option<Time>,
}

/// Prints the day of a date or moment: `{{ due|date }}`, `{{ due|date('full') }}`; `long` unless told.
pub(super) fn date(state: &mut State, value: &Value, length: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let moment = read_moment(state, value, &formats)?;
    let language = language_of(&formats);
    let text = match Length::read(length, Length::Long)? {
        Length::Short => format_day(&language, YMD::short(), &moment.date),
        Length::Medium => format_day(&language, YMD::medium(), &moment.date),
        Length::Long => format_day(&language, YMD::long(), &moment.date),
        Length::Full => {
            let formatter = FixedCalendarDateTimeFormatter::<Gregorian, _>::try_new((&language).into(), YMDE::long());
            formatter.ok().map(|formatter| formatter.format(&moment.date).to_string())
        }
    };
    finish(text, &formats)
}

/// Prints the time of day of a moment: `{{ start|time }}`; hours and minutes unless told, `medium` and longer have seconds.
pub(super) fn time(state: &mut State, value: &Value, length: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let moment = read_moment(state, value, &formats)?;
    let time = moment.time.ok_or_else(|| unfit("a date has no time"))?;
    let precision = match Length::read(length, Length::Short)? {
        Length::Short => T::hm(),
        Length::Medium | Length::Long | Length::Full => T::hms(),
    };
    let formatter = FixedCalendarDateTimeFormatter::<Gregorian, _>::try_new((&language_of(&formats)).into(), precision);
    finish(formatter.ok().map(|formatter| formatter.format(&time).to_string()), &formats)
}

/// Prints day and time of a moment: `{{ start|datetime('medium') }}`; `long` unless told, hours and minutes always.
pub(super) fn datetime(state: &mut State, value: &Value, length: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let moment = read_moment(state, value, &formats)?;
    let time = moment.time.ok_or_else(|| unfit("a date has no time"))?;
    let moment = DateTime { date: moment.date, time };
    let language = language_of(&formats);
    let text = match Length::read(length, Length::Long)? {
        Length::Full => {
            let fields = YMDE::long().with_time_hm();
            let formatter = FixedCalendarDateTimeFormatter::<Gregorian, _>::try_new((&language).into(), fields);
            formatter.ok().map(|formatter| formatter.format(&moment).to_string())
        }
        length => {
            let fields = match length {
                Length::Short => YMD::short(),
                Length::Medium => YMD::medium(),
                Length::Long | Length::Full => YMD::long(),
            };
            let fields = fields.with_time_hm();
            let formatter = FixedCalendarDateTimeFormatter::<Gregorian, _>::try_new((&language).into(), fields);
            formatter.ok().map(|formatter| formatter.format(&moment).to_string())
        }
    };
    finish(text, &formats)
}

/// Prints a number with the recipient's digits and grouping: `{{ count|number }}`, `{{ rate|number(2) }}` for two places.
pub(super) fn number(state: &mut State, value: &Value, places: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let mut number = read_number(state, value)?;
    if let Some(places) = places {
        let places = read_places(&places)?;
        round_half_up(&mut number, places);
    }
    let formatter = DecimalFormatter::try_new((&language_of(&formats)).into(), Default::default());
    finish(formatter.ok().map(|formatter| formatter.format(&number).to_string()), &formats)
}

/// Prints an amount: `{{ fee|money('INR') }}`, or `{{ fee|money }}` for data with members `amount` and `currency`.
pub(super) fn money(state: &mut State, value: &Value, currency: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let (amount, currency) = match (currency, value.kind()) {
        (Some(currency), _) => (value.clone(), currency),
        (None, ValueKind::Map) => (value.get_attr("amount")?, value.get_attr("currency")?),
        (None, _) => return Err(unfit("`money` needs a currency, as in `money('INR')`")),
    };
    let amount = read_number(state, &amount)?;
    let currency = currency.as_str().filter(|code| is_currency(code));
    let currency: CurrencyType = currency
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| unfit("the currency must be an ISO 4217 code of three capitals, such as 'INR'"))?;
    let formatter = CurrencyFormatter::<DecimalFormatter>::try_new_symbol(
        (&language_of(&formats)).into(),
        currency,
        Default::default(),
    );
    finish(formatter.ok().map(|formatter| formatter.format_fixed_decimal(&amount).to_string()), &formats)
}

/// Prints a share of one as percent: `{{ 0.25|percent }}` is 25 %, `{{ share|percent(1) }}` has one place.
pub(super) fn percent(state: &mut State, value: &Value, places: Option<Value>) -> Result<String, Error> {
    let formats = formats_of(state)?;
    let mut number = read_number(state, value)?;
    number.absolute.multiply_pow10(2);
    let places = places.map_or(Ok(0), |places| read_places(&places))?;
    number.absolute.trim_start();
    round_half_up(&mut number, places);
    let formatter = PercentFormatter::<DecimalFormatter>::try_new((&language_of(&formats)).into(), Default::default());
    finish(formatter.ok().map(|formatter| formatter.format(&number).to_string()), &formats)
}

/// Whether a text has the form of an ISO 4217 code; whether the code is given out is not asked.
pub(crate) fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn format_day(language: &icu_locale_core::Locale, fields: YMD, date: &Date<Gregorian>) -> Option<String> {
    let formatter = FixedCalendarDateTimeFormatter::<Gregorian, _>::try_new(language.into(), fields).ok()?;
    Some(formatter.format(date).to_string())
}

fn formats_of(state: &mut State) -> Result<std::sync::Arc<Formats>, Error> {
    charge(state, FORMAT_BYTES)?;
    // Not `lookup`: that would ask the data first.
    let formats = state.env().globals().find(|(name, _)| *name == GLOBAL).map(|(_, value)| value);
    formats.and_then(|value| value.downcast_object::<Formats>()).ok_or_else(|| unfit("there are no formats"))
}

fn language_of(formats: &Formats) -> icu_locale_core::Locale {
    // Both know the same tags, so nothing is lost; the root's patterns would stand in if one were.
    formats.locale.as_str().parse().unwrap_or(icu_locale_core::Locale::UNKNOWN)
}

/// CLDR 49 puts a comma before the year of a long date in Hindi; before it, and in Hindi print, there is none.
fn finish(text: Option<String>, formats: &Formats) -> Result<String, Error> {
    let text = text.ok_or_else(|| unfit("the locale has no such format"))?;
    if formats.locale.language() != "hi" {
        return Ok(text);
    }
    Ok(drop_comma_before_year(&text))
}

/// Drops the comma of `, 2026`, but no comma between a date and a time.
fn drop_comma_before_year(text: &str) -> String {
    let mut shorter = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(", ") {
        shorter.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        shorter.push_str(if digits == 4 && !before.ends_with(|c: char| c.is_ascii_digit()) { " " } else { ", " });
        rest = after;
    }
    shorter.push_str(rest);
    shorter
}

fn read_moment(state: &mut State, value: &Value, formats: &Formats) -> Result<Moment, Error> {
    const FORM: &str = "not a date such as 2026-11-22 or a moment such as 2026-11-22T03:30:00Z";
    let text = match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default(),
        ValueKind::Undefined | ValueKind::None => return Err(ErrorKind::UndefinedError.into()),
        _ => return Err(unfit(FORM)),
    };
    charge(state, text.len())?;
    let (day, clock) = match parse_date(text) {
        Some(day) => (day, None),
        None => {
            let moment = parse_timestamp(text).map_err(|_| unfit(FORM))?;
            let local = formats.time_zone.zone().to_datetime(moment);
            (local.date(), Some(local.time()))
        }
    };
    let number = |part: i8| u8::try_from(part).map_err(|_| unfit(FORM));
    let date = Date::try_new_gregorian(i32::from(day.year()), number(day.month())?, number(day.day())?);
    let date = date.map_err(|_| unfit(FORM))?;
    let time = match clock {
        None => None,
        Some(clock) => {
            let time = Time::try_new(number(clock.hour())?, number(clock.minute())?, number(clock.second())?, 0);
            Some(time.map_err(|_| unfit(FORM))?)
        }
    };
    Ok(Moment { date, time })
}

/// Reads a day as `YYYY-MM-DD`; a longer text is a moment.
pub(crate) fn parse_date(text: &str) -> Option<civil::Date> {
    let is_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    if is_form { text.parse().ok() } else { None }
}

fn read_places(value: &Value) -> Result<i16, Error> {
    const MAX_PLACES: i16 = 10;
    let places = i16::try_from(value.clone()).ok().filter(|places| (0..=MAX_PLACES).contains(places));
    places.ok_or_else(|| unfit("the places after the point must be 0 to 10"))
}

/// Rounds as people do, half away from zero, to that many places.
fn round_half_up(number: &mut Decimal, places: i16) {
    number.absolute.round_with_mode(-places, UnsignedRoundingMode::HalfExpand);
    number.absolute.pad_end(-places);
}

fn read_number(state: &mut State, value: &Value) -> Result<Decimal, Error> {
    let text: Cow<'_, str> = match value.kind() {
        ValueKind::String => Cow::Borrowed(value.as_str().unwrap_or_default()),
        ValueKind::Number => Cow::Owned(value.to_string()),
        ValueKind::Undefined | ValueKind::None => return Err(ErrorKind::UndefinedError.into()),
        _ => return Err(unfit("not a number")),
    };
    charge(state, text.len())?;
    let mut number = parse_number(&text).ok_or_else(|| unfit("not a number of at most 40 digits"))?;
    if value.is_number() {
        // A floating number prints `.0`, which nobody wrote.
        number.absolute.trim_end_if_integer();
    }
    Ok(number)
}

/// Reads a decimal number without exponent; a text keeps the places that it was written with.
pub(crate) fn parse_number(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits =
        |part: &str| (1..=MAX_DIGITS).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let mut number = Decimal::try_from_str(text).ok()?;
    number.absolute.trim_start();
    Some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::render::{Formats, RenderError, RenderErrorKind, TemplateSource, render_template};

    fn render(expression: &str, data: &serde_json::Value, formats: &Formats) -> Result<String, RenderError> {
        let text = Some(format!("{{{{ {expression} }}}}"));
        let source = TemplateSource { subject: "s".to_owned(), text, html: None };
        render_template(&source, data, formats).map(|rendered| rendered.text.unwrap())
    }

    /// Spaces that no line may break at read like any other here.
    fn plain(text: &str) -> String {
        text.replace(['\u{a0}', '\u{202f}'], " ").replace(['\u{200e}', '\u{200f}'], "")
    }

    #[test]
    fn a_moment_is_shown_in_the_recipients_language_and_zone() {
        let cases = [
            ("m|date('short')", "hi-IN", "22/11/26"),
            ("m|date('medium')", "hi-IN", "22 नव॰ 2026"),
            ("m|date", "hi-IN", "22 नवंबर 2026"),
            ("m|date('full')", "hi", "रविवार, 22 नवंबर 2026"),
            ("m|time", "hi-IN", "1:30 am"),
            ("m|datetime('medium')", "hi-IN", "22 नव॰ 2026, 1:30 am"),
            ("m|datetime", "hi-IN", "22 नवंबर 2026 को 1:30 am बजे"),
            ("m|datetime('full')", "hi-IN", "रविवार, 22 नवंबर 2026 को 1:30 am बजे"),
            ("d|date", "hi-IN", "21 नवंबर 2026"),
            ("m|date", "en-IN", "22 November 2026"),
            ("m|date", "en-US", "November 22, 2026"),
            ("m|date('short')", "en-US", "11/22/26"),
            ("m|time('medium')", "en-US", "1:30:00 AM"),
            ("m|datetime", "de", "22. November 2026 um 01:30"),
            ("m|date('full')", "fr", "dimanche 22 novembre 2026"),
            ("m|date", "mr", "२२ नोव्हेंबर, २०२६"),
            ("m|date", "ja", "2026年11月22日"),
            // A language that CLDR does not have reads as the root has it.
            ("d|date('short')", "xx", "2026-11-21"),
        ];
        let data = json!({"m": "2026-11-21T20:00:00Z", "d": "2026-11-21"});
        for (expression, locale, wanted) in cases {
            let shown = render(expression, &data, &Formats::of(locale, "Asia/Kolkata")).unwrap();
            assert_eq!(plain(&shown), wanted, "{expression} {locale}");
        }
        for (zone, wanted) in [
            ("UTC", "Nov 21, 2026, 8:00 PM"),
            ("Asia/Kolkata", "Nov 22, 2026, 1:30 AM"),
            ("America/New_York", "Nov 21, 2026, 3:00 PM"),
        ] {
            let shown = render("m|datetime('medium')", &data, &Formats::of("en", zone)).unwrap();
            assert_eq!(plain(&shown), wanted, "{zone}");
        }
        // A day has no zone.
        assert_eq!(render("d|date", &data, &Formats::of("en", "Pacific/Auckland")).as_deref(), Ok("November 21, 2026"));
    }

    #[test]
    fn numbers_are_shown_with_the_recipients_digits_and_grouping() {
        let cases = [
            ("123456.5|number", "en-IN", "1,23,456.5"),
            ("'123456.00'|number", "en-IN", "1,23,456.00"),
            ("123456.0|number", "en-IN", "1,23,456"),
            ("1234.5678|number(2)", "en-US", "1,234.57"),
            ("1|number(2)", "de", "1,00"),
            ("0.125|number(2)", "en", "0.13"),
            ("-1234|number", "fr", "-1 234"),
            ("'0012'|number", "en", "12"),
            ("1234567|number", "mr", "१२,३४,५६७"),
            (
                "170141183460469231731687303715884105727|number",
                "en",
                "170,141,183,460,469,231,731,687,303,715,884,105,727",
            ),
            ("123456|money('INR')", "hi", "₹1,23,456.00"),
            ("123456|money('INR')", "en-IN", "₹1,23,456.00"),
            ("'-5.005'|money('INR')", "en-IN", "-₹5.01"),
            ("1234.5|money('EUR')", "de", "1.234,50 €"),
            ("1234|money('JPY')", "ja", "￥1,234"),
            ("1.5|money('KWD')", "en", "KWD 1.500"),
            ("1.5|money('QQQ')", "en", "QQQ 1.50"),
            ("fee|money", "en-IN", "₹12.50"),
            ("0.256|percent", "en", "26%"),
            ("0.256|percent(1)", "de", "25,6 %"),
            ("-1|percent", "en", "-100%"),
        ];
        let data = json!({"fee": {"amount": "12.5", "currency": "INR"}});
        for (expression, locale, wanted) in cases {
            let shown = render(expression, &data, &Formats::of(locale, "UTC")).unwrap();
            assert_eq!(plain(&shown), wanted, "{expression} {locale}");
        }
    }

    #[test]
    fn what_is_no_date_or_number_is_an_error_with_its_place() {
        let data = json!({"s": "asha", "d": "2026-11-21", "m": "2026-11-21T20:00:00Z", "n": null, "l": [1], "o": {"amount": 1}});
        for (expression, kind, detail) in [
            ("s|date", RenderErrorKind::Other, "not a date such as"),
            ("'2026-02-30'|date", RenderErrorKind::Other, "not a date such as"),
            ("'2026-1-1'|date", RenderErrorKind::Other, "not a date such as"),
            ("'2026-11-21T20:00'|datetime", RenderErrorKind::Other, "not a date such as"),
            ("5|date", RenderErrorKind::Other, "not a date such as"),
            ("l|date", RenderErrorKind::Other, "not a date such as"),
            ("d|time", RenderErrorKind::Other, "a date has no time"),
            ("d|datetime", RenderErrorKind::Other, "a date has no time"),
            ("d|date('huge')", RenderErrorKind::Other, "the length must be"),
            ("d|date(1)", RenderErrorKind::Other, "the length must be"),
            ("s|number", RenderErrorKind::Other, "not a number"),
            ("'1e5'|number", RenderErrorKind::Other, "not a number"),
            ("'1,5'|number", RenderErrorKind::Other, "not a number"),
            ("''|number", RenderErrorKind::Other, "not a number"),
            ("1e300|number", RenderErrorKind::Other, "not a number"),
            ("1|number(11)", RenderErrorKind::Other, "the places"),
            ("1|number(-1)", RenderErrorKind::Other, "the places"),
            ("1|money", RenderErrorKind::Other, "`money` needs a currency"),
            ("1|money('inr')", RenderErrorKind::Other, "the currency must be"),
            ("1|money('INRR')", RenderErrorKind::Other, "the currency must be"),
            ("1|money(5)", RenderErrorKind::Other, "the currency must be"),
            ("o|money", RenderErrorKind::Other, "the currency must be"),
            ("s|percent", RenderErrorKind::Other, "not a number"),
            ("n|date", RenderErrorKind::MissingVariable, "a variable is missing or null"),
            ("n|number", RenderErrorKind::MissingVariable, "a variable is missing or null"),
            ("n|money('INR')", RenderErrorKind::MissingVariable, "a variable is missing or null"),
        ] {
            let error = render(&format!("\n {expression}"), &data, &Formats::default()).unwrap_err();
            assert_eq!((error.kind, error.line), (kind, Some(2)), "{expression}: {error:?}");
            assert!(error.column.is_some() && error.detail.starts_with(detail), "{expression}: {error:?}");
            assert!(!error.detail.contains("asha"), "{error}");
        }
    }

    #[test]
    fn data_cannot_pass_for_the_formats() {
        let data = json!({" formats": "x", "d": "2026-11-21"});
        assert_eq!(render("d|date", &data, &Formats::default()).as_deref(), Ok("November 21, 2026"));
    }

    #[test]
    fn every_locale_has_every_format() {
        let data = json!({"m": "2026-11-21T20:00:00Z"});
        for locale in [
            "en",
            "hi",
            "bn",
            "ta",
            "te",
            "mr",
            "gu",
            "kn",
            "ml",
            "pa",
            "ur",
            "or",
            "as",
            "ne",
            "si",
            "ar",
            "fa",
            "he",
            "th",
            "zh",
            "zh-TW",
            "ko",
            "ru",
            "sr-Latn",
            "es-419",
            "de-CH-1996",
            "mni-Beng",
            "xx",
            "en-XX",
            "zz-Zzzz-ZZ",
        ] {
            for expression in [
                "m|date",
                "m|date('full')",
                "m|time",
                "m|datetime",
                "m|datetime('full')",
                "1.5|number",
                "1|money('INR')",
                "1|percent",
            ] {
                let shown = render(expression, &data, &Formats::of(locale, "Asia/Kolkata"));
                assert!(shown.is_ok_and(|shown| !shown.is_empty()), "{expression} {locale}");
            }
        }
    }
}
