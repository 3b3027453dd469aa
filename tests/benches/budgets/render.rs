//! How long making a mail takes: with its template compiled, as the processor's cache has it, and without.
//!
//! The template has HTML only, as most have, and the mail may be left: the text part and the footers are made, too.

use std::hint::black_box;
use std::time::Instant;

use domain::message::{Reader, Subject, make_message, message_context};
use domain::render::{CompiledTemplate, FooterLinks, Formats, TemplateSource};
use serde_json::{Value, json};

use crate::median::median;
use crate::table::Table;
use crate::{Outcome, progress};

/// The most that making one mail of 20 KB may take once its template is compiled, in microseconds.
const ALLOWED_US: f64 = 200.0;
/// How large the rendered HTML part is about, in bytes.
const HTML_BYTES: usize = 20 * 1024;
const ROUNDS: usize = 301;

pub(crate) fn measure(table: &mut Table) -> Outcome<()> {
    progress("rendering");
    let (source, data) = (source(), data());
    let links = FooterLinks {
        unsubscribe_url: address("unsubscribe"),
        preferences_url: address("preference-center"),
        ..FooterLinks::none()
    };
    let reader = Reader {
        id: Some("auditor-7"),
        name: Some("Asha Rao"),
        email: Some("asha.rao@example.in"),
        locale: "hi-IN",
        time_zone: "Asia/Kolkata",
        attributes: &json!({"branch": "Pune"}),
    };
    let about = Subject {
        notification: "ntf_01a1fd7ccccd7410a93abd975284c6b9",
        category: "OBSERVATION_ASSIGNED",
        tenant: "First",
        data: &data,
        links: &links,
        can_leave: true,
    };
    let compiled = CompiledTemplate::new(source.clone())?;
    let size = make_message(&compiled, &reader, &about)?.parts.html.map_or(0, |html| html.len());
    if !(HTML_BYTES..HTML_BYTES * 11 / 10).contains(&size) {
        return Err(format!("the mail to render has {size} bytes instead of about {HTML_BYTES}").into());
    }
    let cold =
        median_us(|| CompiledTemplate::new(source.clone()).and_then(|fresh| make_message(&fresh, &reader, &about)))?;
    let context = message_context(&reader, &about);
    let formats = Formats::of(reader.locale, reader.time_zone);
    let rendered = median_us(|| compiled.render(&context, &formats))?;
    let warm = median_us(|| make_message(&compiled, &reader, &about))?;
    let size = format!("{:.1} KB of HTML", f64::from(u32::try_from(size)?) / 1024.0);
    for (what, measured) in [("template compiled", rendered), ("the same with text part, footers and digest", warm)] {
        table.add_at_most(
            format!("render: {size}, {what}"),
            format!("{ALLOWED_US:.0} µs"),
            format!("{measured:.0} µs"),
            measured,
            ALLOWED_US,
        );
    }
    table.show(format!("render: {size}, template not compiled"), format!("{cold:.0} µs"));
    table.show("render: what a cache counts for it", format!("{} KB", compiled.size_bytes() / 1024));
    Ok(())
}

/// The median of many rounds, in microseconds.
fn median_us<T, E: std::error::Error + 'static>(mut work: impl FnMut() -> Result<T, E>) -> Outcome<f64> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        black_box(work()?);
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&times))
}

/// A link of a token's length.
fn address(page: &str) -> String {
    format!("https://notify.example.in/v1/{page}/{}", "a".repeat(96))
}

/// A mail as people write them: a table of rows with dates, amounts and links between much text.
fn source() -> TemplateSource {
    let text = "<p style=\"margin:0;font-family:Arial,sans-serif;font-size:14px;line-height:22px;color:#333333\">\
                Please look at what is open before it is due, and write to us when something is missing.</p>\n"
        .repeat(75);
    let row = "<tr style=\"border-bottom:1px solid #dddddd\"><td style=\"padding:8px\">\
               <a href=\"https://example.in/observations/{{ row.id }}\" style=\"color:#0645ad\">{{ row.title }}</a></td>\
               <td style=\"padding:8px\">{{ row.due }}</td>\
               <td style=\"padding:8px\">{% if row.is_late %}<b>{{ row.state }}</b>{% else %}{{ row.state|upper }}{% endif %}</td></tr>\n";
    let html = format!(
        "<!doctype html><html lang=\"hi\"><body><h1>{{{{ title }}}}</h1><p>{{{{ name|default('friend') }}}}, {{{{ due|date }}}}, \
         {{{{ total|money('INR') }}}}</p>\n{text}<table>{{% for row in rows %}}{row}{{% endfor %}}</table></body></html>"
    );
    TemplateSource { subject: "{{ title }} {{ due|date('medium') }}".to_owned(), text: None, html: Some(html) }
}

fn data() -> Value {
    let row = |number: usize| json!({"id": format!("obs-{number}"), "title": format!("Observation {number} & more"), "due": "2026-12-01", "state": "open", "is_late": number.is_multiple_of(3)});
    json!({
        "title": "Open observations", "name": "Asha", "due": "2026-11-21T20:00:00Z", "total": "123456.50",
        "rows": (0..25).map(row).collect::<Vec<_>>(),
    })
}
