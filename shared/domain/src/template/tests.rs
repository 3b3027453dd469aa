//! What becomes of drafts: their parts, and each mistake with its place.

use serde_json::{Value, json};

use super::*;
use crate::render::{CompiledTemplate, Formats, TemplateSource, render_parts};

fn locale(tag: &str) -> Locale {
    Locale::parse(tag).unwrap()
}

fn key(text: &str) -> TemplateKey {
    TemplateKey::parse(text).unwrap()
}

fn variant(tag: &str, subject: &str, markup: Option<Markup>, text: Option<&str>) -> Variant {
    Variant {
        channel: Channel::Email,
        locale: locale(tag),
        subject: (!subject.is_empty()).then(|| subject.to_owned()),
        markup,
        text: text.map(str::to_owned),
        short_text: None,
    }
}

fn html(source: &str) -> Option<Markup> {
    Some(Markup::Html(source.to_owned()))
}

fn mjml(source: &str) -> Option<Markup> {
    Some(Markup::Mjml(source.to_owned()))
}

fn message(variants: Vec<Variant>, variables: Option<Value>) -> Draft {
    let variables = variables.map(|declared| Variables::parse(&declared).unwrap());
    Draft { kind: Kind::Message, layout: None, variables, variants }
}

/// Declarations of texts, and of `rows`.
fn names(texts: &[&str]) -> Option<Value> {
    let mut declared = json!({"rows": {"type": "list", "example": ["row"]}});
    for name in texts {
        declared[name] = json!({"type": "string", "example": name});
    }
    Some(declared)
}

fn library(pieces: &[(&str, Kind, Variant)]) -> Library {
    let mut library = Library::empty(locale("en"));
    for (name, kind, variant) in pieces {
        let piece = library.pieces.entry(key(name)).or_insert_with(|| Piece { kind: *kind, variants: Vec::new() });
        piece.variants.push(variant.clone());
    }
    library
}

fn publish_html(source: &str, pieces: &[(&str, Kind, Variant)]) -> Result<String, Vec<DraftError>> {
    let draft = message(vec![variant("en", "s", html(source), None)], names(&["a", "colour"]));
    publish(&draft, &library(pieces)).map(|published| published[0].parts.html.clone().unwrap())
}

/// Each mistake as `pointer line column detail`.
fn told(errors: &[DraftError]) -> Vec<String> {
    let place = |error: &DraftError| match (error.line, error.column) {
        (Some(line), Some(column)) => format!("{line}:{column} "),
        (Some(line), None) => format!("{line} "),
        _ => String::new(),
    };
    errors.iter().map(|error| format!("{} {}{}", error.pointer, place(error), error.detail)).collect()
}

#[test]
fn a_message_is_published_as_parts_that_need_nothing_else() {
    let pieces = [
        ("head", Kind::Partial, variant("en", "", html("<h1>{{ title }}</h1>\n"), Some("# {{ title }}\n"))),
        ("head", Kind::Partial, variant("hi", "", html("<h1>शीर्षक {{ title }}</h1>"), None)),
        ("foot", Kind::Partial, variant("en", "", html("<i>{% include \"sign\" %}</i>"), None)),
        ("sign", Kind::Partial, variant("en", "", html("Harkara"), None)),
        (
            "mail",
            Kind::Layout,
            variant("en", "", html("<body>{% content %}{% include 'foot' %}</body>"), Some("[\n{% content %}\n]")),
        ),
    ];
    let source = "{% include \"head\" %}{% for x in rows %}<p>{{ x }}</p>{% endfor %}";
    let mut draft = message(
        vec![
            variant("en", "{{ title }}", html(source), Some("{% include 'head' %}!")),
            variant("hi-IN", "{{ title }}", html(source), None),
        ],
        names(&["title"]),
    );
    draft.layout = Some(key("mail"));
    let published = publish(&draft, &library(&pieces)).unwrap();
    assert_eq!(
        published[0].parts.html.as_deref(),
        Some("<body><h1>{{ title }}</h1>{% for x in rows %}<p>{{ x }}</p>{% endfor %}<i>Harkara</i></body>")
    );
    assert_eq!(published[0].parts.text.as_deref(), Some("[\n# {{ title }}!\n]"));
    assert_eq!(
        published[1].parts.html.as_deref(),
        Some("<body><h1>शीर्षक {{ title }}</h1>{% for x in rows %}<p>{{ x }}</p>{% endfor %}<i>Harkara</i></body>")
    );
    assert_eq!(published[1].parts.text, None);
    assert_ne!(published[0].hash, published[1].hash);
    assert_eq!(published[0].hash, published[0].parts.hash());
    assert_eq!(publish(&draft, &library(&pieces)).unwrap(), published, "the same comes out of the same");
}

#[test]
fn a_preview_is_the_mail_byte_for_byte() {
    let draft = message(
        vec![variant(
            "hi",
            "{{ due|date }}",
            html("<p>{{ due|datetime }} {{ fee|money('INR') }}</p>"),
            Some("{{ due|time }}"),
        )],
        Some(json!({
            "due": {"type": "datetime", "example": "2026-12-01T20:00:00Z"},
            "fee": {"type": "string", "example": "1"},
        })),
    );
    let parts = publish(&draft, &Library::empty(locale("en"))).unwrap().remove(0).parts;
    let source =
        TemplateSource { subject: parts.subject.clone().unwrap(), text: parts.text.clone(), html: parts.html.clone() };
    let data = json!({"due": "2026-11-21T20:00:00Z", "fee": "123456"});
    let formats = Formats::of("hi-IN", "Asia/Kolkata");
    let mail = CompiledTemplate::new(source).unwrap().render(&data, &formats).unwrap();
    assert_eq!(render_parts(&parts, &data, &formats).unwrap().mail(), Some(mail.clone()));
    assert_eq!(mail.subject.as_str(), "22 नवंबर 2026");
    assert_eq!(mail.html.as_deref(), Some("<p>22 नवंबर 2026 को 1:30 am बजे ₹1,23,456.00</p>"));
}

#[test]
fn includes_that_cannot_be_are_refused_where_they_stand() {
    let partial = |source: &str| variant("en", "", html(source), None);
    let pieces = [
        ("self", Kind::Partial, partial("{% include 'self' %}")),
        ("a", Kind::Partial, partial("x{% include 'b' %}")),
        ("b", Kind::Partial, partial("{% include 'a' %}")),
        ("missing", Kind::Partial, partial("\n{% include 'nowhere' %}")),
        ("text", Kind::Partial, variant("en", "", None, Some("x"))),
        ("mj", Kind::Partial, variant("en", "", mjml("<mj-text>x</mj-text>"), None)),
        ("french", Kind::Partial, variant("fr", "", html("x"), None)),
        ("layout", Kind::Layout, partial("{% content %}")),
        ("ten", Kind::Partial, partial(&"{% include 'leaf' %}".repeat(10))),
        ("hundred", Kind::Partial, partial(&"{% include 'ten' %}".repeat(10))),
        ("leaf", Kind::Partial, partial("x")),
        ("large", Kind::Partial, partial(&"x".repeat(200_000))),
    ];
    for (source, wanted) in [
        ("\n {% include 'self' %}", "/variants/0/html 2:2 in the partial `self`: the partial `self` includes itself"),
        (
            "{% include 'a' %}",
            "/variants/0/html 1:1 in the partial `a`: in the partial `b`: the partial `a` includes itself",
        ),
        (
            "é{% include 'missing' %}",
            "/variants/0/html 1:2 in the partial `missing`: there is no published partial `nowhere`",
        ),
        ("{% include 'text' %}", "/variants/0/html 1:1 the partial `text` has no html"),
        ("{% include 'mj' %}", "/variants/0/html 1:1 the partial `mj` is MJML and this part is not"),
        ("{% include 'french' %}", "/variants/0/html 1:1 the partial `french` has no variant for this channel"),
        ("{% include 'layout' %}", "/variants/0/html 1:1 there is no published partial `layout`"),
        (
            "{% include name %}",
            "/variants/0/html 1:1 `include` takes one key in quotes, as in `{% include \"footer\" %}`",
        ),
        (
            "{% include 'a' if x %}",
            "/variants/0/html 1:1 `include` takes one key in quotes, as in `{% include \"footer\" %}`",
        ),
        ("{%- include 'leaf' %}", "/variants/0/html 1:1 `include` and `content` take no `-` or `+`"),
        ("{% content %}", "/variants/0/html 1:1 `{% content %}` is for layouts only"),
        (
            "{% include 'hundred' %}{% include 'hundred' %}",
            "/variants/0/html 1:24 in the partial `hundred`: too many partials are included",
        ),
        (
            "{% include 'large' %}{% include 'large' %}",
            "/variants/0/html 1:22 in the partial `large`: with its partials and layout it is longer than 256 KiB",
        ),
    ] {
        assert_eq!(told(&publish_html(source, &pieces).unwrap_err()), [wanted], "{source}");
    }
}

#[test]
fn every_mistake_of_every_variant_is_told_with_its_place() {
    let variables = json!({"name": {"type": "string", "example": "Asha"}});
    let draft = message(
        vec![
            variant("en", "{{ nam }}", html("<p>\n  {{ name|safe }}</p>"), Some("a\n{% if name %}")),
            variant("hi", "", html("<p>{{ name }}</p>\n<a href='javascript:x'>{{ other }}</a>"), None),
            variant("hi", "s", mjml("<mjml><mj-body>\n<mj-text>{{ name }}</mj-txt></mj-body></mjml>"), None),
            variant(
                "de",
                "{{ name }} {{ recipient.name }} {% for x in name %}{{ x }}{{ loop.index }}{% endfor %}",
                None,
                None,
            ),
        ],
        Some(variables),
    );
    let errors = publish(&draft, &Library::empty(locale("en"))).unwrap_err();
    assert_eq!(
        told(&errors),
        [
            "/variants/2 another variant has this channel and locale",
            "/variants/0/subject 1:4 `nam` is not declared in `variables`",
            "/variants/0/text 2:12 unexpected end of input, expected end of block",
            "/variants/0/html 2:11 the filter `safe` is not available",
            "/variants/1/subject a mail must have a subject",
            "/variants/1/html 2:27 `other` is not declared in `variables`",
            "/variants/1/html 2:1 a link may lead to http, https, mailto, tel, sms, cid, an anchor or a relative address only",
            "/variants/2/mjml 2:20 `<mj-text>` must be closed first",
            "/variants/3 must have html, mjml or text",
        ]
    );
}

#[test]
fn a_draft_has_a_shape() {
    let empty = message(Vec::new(), None);
    assert_eq!(told(&publish(&empty, &library(&[])).unwrap_err()), ["/variants must have 1 to 50 variants"]);
    let many = message((0..51).map(|_| variant("en", "s", None, Some("x"))).collect(), None);
    assert_eq!(told(&publish(&many, &library(&[])).unwrap_err())[0], "/variants must have 1 to 50 variants");
    let mut layout = message(vec![variant("en", "", html("x"), Some("{% content %}{% content %}"))], None);
    layout.kind = Kind::Layout;
    layout.layout = Some(key("x"));
    assert_eq!(
        told(&publish(&layout, &library(&[])).unwrap_err()),
        [
            "/layout a layout has no layout",
            "/variants/0/text a layout must have `{% content %}` exactly once in each part",
            "/variants/0/html a layout must have `{% content %}` exactly once in each part",
        ]
    );
    let long = "x".repeat(256 * 1024 + 1);
    let draft = message(vec![variant("en", "s", html(&long), None)], None);
    assert_eq!(told(&publish(&draft, &library(&[])).unwrap_err()), ["/variants/0/html must have at most 256 KiB"]);
}

#[test]
fn a_partial_and_a_layout_are_published_as_they_were_written() {
    let pieces = [("leaf", Kind::Partial, variant("en", "", html("x"), None))];
    let publish_piece = |kind: Kind, markup: Option<Markup>, text: Option<&str>| {
        let mut draft = message(vec![variant("en", "", markup, text)], None);
        draft.kind = kind;
        publish(&draft, &library(&pieces)).map(|mut published| published.remove(0)).map_err(|errors| told(&errors))
    };
    let source = "<p>{% include 'leaf' %}{{ any }}</p>";
    let partial = publish_piece(Kind::Partial, html(source), Some("t")).unwrap();
    assert_eq!(
        (partial.parts.html.as_deref(), partial.parts.text.as_deref(), partial.mjml),
        (Some(source), Some("t"), None)
    );
    let source = "<mjml><mj-body>{% content %}</mj-body></mjml>";
    let layout = publish_piece(Kind::Layout, mjml(source), None).unwrap();
    assert_eq!((layout.parts.html.as_deref(), layout.mjml.as_deref()), (None, Some(source)));
    for (kind, markup, wanted) in [
        (Kind::Partial, html("{% include 'none' %}"), "/variants/0/html 1:1 there is no published partial `none`"),
        (Kind::Partial, html("\n{% if x %}"), "/variants/0/html 2:9 unexpected end of input, expected end of block"),
        (Kind::Partial, None, "/variants/0 must have at least one part"),
        (
            Kind::Layout,
            mjml("<mjml>\n<mj-body>{% content %}<mj-nothing/></mj-body></mjml>"),
            "/variants/0/mjml 2:23 MJML has no element `mj-nothing`",
        ),
    ] {
        assert_eq!(publish_piece(kind, markup, None).unwrap_err(), [wanted]);
    }
}

#[test]
fn the_deepest_mjml_that_is_allowed_compiles() {
    let mail = |inside: &str| {
        format!(
            "<mjml><mj-body><mj-section><mj-column><mj-text>{inside}</mj-text></mj-column></mj-section></mj-body></mjml>"
        )
    };
    let nest = |count: usize| format!("{}x{}", "<div>".repeat(count), "</div>".repeat(count));
    let publish_mail =
        |source: String| publish(&message(vec![variant("en", "s", mjml(&source), None)], None), &library(&[]));
    assert!(publish_mail(mail(&nest(59))).is_ok());
    assert!(publish_mail(mail(&nest(60))).is_err());
    let condition = |count: usize| format!("<mj-raw><!--[if mso]>{}<![endif]--></mj-raw>", "<td>".repeat(count));
    for count in [0, 1, 128, 129, 10_000] {
        let source = mail("x").replace("<mj-text>", &format!("{}<mj-text>", condition(count)));
        // Whether it compiles is the compiler's affair; that it ends is ours.
        assert!(publish_mail(source).is_err() || count <= 128, "{count}");
    }
}

#[test]
fn examples_must_render() {
    let variables = json!({
        "count": {"type": "integer", "example": 3},
        "note": {"type": "string", "required": false, "example": "x"},
        "due": {"type": "date", "example": "2026-12-01"},
    });
    for (source, wanted) in [
        ("{{ count }} {{ due|date }}{% if note %}{{ note }}{% endif %}{{ unsubscribe_url }}", None),
        ("{{ note|default('') }}", None),
        ("{{ due|datetime }}", Some("with the examples: a date has no time in `{{ due|datetime }}`")),
        (
            "{{ note }}",
            Some("without what the data or the recipient may lack: a variable is missing or null in `{{ note }}`"),
        ),
    ] {
        let draft = message(vec![variant("en", "s", None, Some(source))], Some(variables.clone()));
        let errors = publish(&draft, &library(&[])).map(|_| ());
        let wanted = wanted.map(|wanted| vec![format!("/variants/0/text {wanted}")]);
        let told = errors.err().map(|errors| told(&errors));
        assert!(
            match (&told, &wanted) {
                (Some(told), Some(wanted)) => told[0].starts_with(&wanted[0]),
                (told, wanted) => told == wanted,
            },
            "{source}: {told:?}"
        );
    }
}

#[test]
fn a_draft_is_checked_with_what_a_send_knows_and_no_more() {
    let publish_text = |source: &str| {
        let draft = message(vec![variant("en", "s", None, Some(source))], None);
        publish(&draft, &library(&[])).map(|_| ()).map_err(|errors| told(&errors).remove(0))
    };
    for source in [
        "{{ recipient.email }} {{ recipient.locale }} {{ recipient.time_zone }} {{ recipient.name or 'you' }}",
        "{{ recipient.name|default('you') }} {% if recipient.id %}{{ recipient.id }}{% endif %}",
        "{{ recipient.attributes.city|default('your city') }}",
        "{{ notification.id }} {{ notification.category }} {{ tenant.name }} {{ unsubscribe_url }} {{ preferences_url }}",
    ] {
        assert_eq!(publish_text(source), Ok(()), "{source}");
    }
    // A send knows no such thing of anybody.
    for source in ["{{ recipient.phone }}", "{{ tenant.id }}", "{{ recipient.attributes.city }}"] {
        let error = publish_text(source).unwrap_err();
        assert!(error.starts_with("/variants/0/text with the examples: "), "{source}: {error}");
    }
    // And these of some only.
    for source in ["{{ recipient.name }}", "{{ recipient.id }}"] {
        let error = publish_text(source).unwrap_err();
        assert!(error.starts_with("/variants/0/text without what the data or the recipient may lack: "), "{error}");
    }
}

#[test]
fn a_message_that_declares_nothing_may_use_our_names_only() {
    let draft =
        message(vec![variant("en", "Hi {{ nmae }}", None, Some("{% for x in rows %}{{ x }}{% endfor %}"))], None);
    assert_eq!(
        told(&publish(&draft, &library(&[])).unwrap_err()),
        [
            "/variants/0/subject 1:7 `nmae` is not declared in `variables`",
            "/variants/0/text 1:13 `rows` is not declared in `variables`",
        ]
    );
}

#[test]
fn a_partial_takes_only_names_that_its_message_declares() {
    let pieces = [("p", Kind::Partial, variant("en", "", html("{{ secret }}{{ name }}"), None))];
    let draft = message(
        vec![variant("en", "s", html("{% include 'p' %}"), None)],
        Some(json!({"name": {"type": "string", "example": "x"}})),
    );
    let errors = publish(&draft, &library(&pieces)).unwrap_err();
    assert_eq!(
        told(&errors)[0],
        "/variants/0/html a partial or the layout uses `secret`, which is not declared in `variables`"
    );
}

const MAIL: &str = r#"<mjml><mj-head><mj-title>{{ title }}</mj-title><mj-style inline="inline">.b { color: {{ colour }} }</mj-style></mj-head>
<mj-body>
{% if rows %}
<mj-section background-url="{{ image }}">
  {% for row in rows %}
  <mj-column>{# a note #}
    <mj-text>Hello <b class="b">{{ row.name|default("a > b") }}</b>{% raw %}{{ x }}{% endraw %}</mj-text>
    {% if row.link %}<mj-button href="{{ row.link }}" css-class="c-{{ loop.index }}">Open</mj-button>{% endif %}
    <mj-table><tr><th>x</th></tr>{% for cell in row.cells %}<tr><td>{{ cell }}</td></tr>{% endfor %}</mj-table>
  </mj-column>
  {% endfor %}
</mj-section>
{% endif %}
</mj-body></mjml>"#;

#[test]
fn mjml_keeps_every_tag_of_its_template() {
    let mut declared = names(&["title", "colour", "image"]);
    if let Some(declared) = &mut declared {
        declared["rows"]["example"] = json!([{"link": null, "cells": []}]);
    }
    let draft = message(vec![variant("hi-IN", "s", mjml(MAIL), None)], declared);
    let published = publish(&draft, &library(&[])).unwrap();
    let parts = &published[0].parts;
    let data = |rows: Value| json!({"title": "T", "colour": "red", "image": "https://example.in/i.png", "rows": rows});
    let rows = json!([
        {"name": "Asha", "link": "https://example.in/1", "cells": ["c1", "c2"]},
        {"link": null, "cells": []},
    ]);
    let shown = render_parts(parts, &data(rows), &Formats::default()).unwrap().html.unwrap();
    for wanted in [
        "lang=\"hi-IN\"",
        "<title>T</title>",
        "<b class=\"b\" style=\"color:red\">Asha</b>{{ x }}",
        "a &gt; b",
        "href=\"https:&#x2f;&#x2f;example.in&#x2f;1\"",
        "c-1",
        "<tr><td>c2</td></tr>",
        "url('https:",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(!shown.contains("mj-raw") && !shown.contains("hk0"), "{shown}");
    assert_eq!(shown.matches("Open").count(), 1);
    let empty = render_parts(parts, &data(json!([])), &Formats::default()).unwrap().html.unwrap();
    assert!(!empty.contains("Hello"));
}

#[test]
fn mjml_that_would_lose_a_tag_is_refused_where_it_stands() {
    let body = |inside: &str| {
        format!("<mjml><mj-body><mj-section><mj-column>\n{inside}\n</mj-column></mj-section></mj-body></mjml>")
    };
    for (source, wanted) in [
        (
            body("<mj-image src=\"x.png\" alt=\"\" width=\"{{ w }}\" />"),
            "2:37 MJML keeps no template tag in this place: it wants a number or a fixed word here",
        ),
        (
            body("<mj-text {{ x }}>x</mj-text>"),
            "2:10 a template tag must stand in text or in the quotes of an attribute",
        ),
        (
            body("<mj-text color={{ x }}>x</mj-text>"),
            "2:16 a template tag must stand in text or in the quotes of an attribute",
        ),
        (body("{{ x }}"), "2:1 put this into an `mj-text` or `mj-raw`"),
        (
            body("<mj-social>{% if x %}{% endif %}</mj-social>"),
            "2:12 a template tag cannot stand between the elements of `mj-social`",
        ),
        ("{% if x %}<mjml></mjml>{% endif %}".to_owned(), "1:1 a template tag cannot stand outside of `mjml`"),
        (
            "<mjml>\n<mj-head>{% if x %}{% endif %}</mj-head></mjml>".to_owned(),
            "2:10 a template tag cannot stand between the elements of `mj-head`",
        ),
        (body("<mj-txt>x</mj-txt>"), "2:1 MJML has no element `mj-txt`"),
        (body("<mj-text>x</mj-text"), "2:11 `<mj-text>` must be closed first"),
        (body("<mj-include path=\"x\" />"), "2:1 `mj-include` is not available: use `{% include \"key\" %}`"),
        (body("<mj-text>a < b</mj-text>"), ""),
        (body(&format!("{}{}", "<div>".repeat(100), "</div>".repeat(100))), "2:301 elements are nested too deep"),
        (body("<!--[if mso"), "2:1 a conditional comment is written"),
        (body("<!--[if mso]x<![endif]-->"), "2:1 a conditional comment is written"),
        (body("<!--[if mso]>x<![endif-->"), "2:15 a conditional comment is written"),
        ("<p>x</p>".to_owned(), "1:1 MJML has an element in this place, or the end of one, and nothing else"),
        (String::new(), "the MJML must be one `<mjml>` element"),
        ("<!DOCTYPE html><mjml></mjml>".to_owned(), "1:1 MJML has elements and comments only"),
    ] {
        let draft = message(vec![variant("en", "s", mjml(&source), None)], names(&["w", "x"]));
        let errors = told(&publish(&draft, &library(&[])).unwrap_err());
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("/variants/0/mjml {wanted}")),
            "{source}: {errors:?}"
        );
    }
}

#[test]
fn mjml_of_a_message_stands_in_an_mjml_layout() {
    let pieces = [
        (
            "mail",
            Kind::Layout,
            variant(
                "en",
                "",
                mjml(
                    "<mjml><mj-body>{% content %}<mj-section><mj-column><mj-text>{% include 'foot' %}</mj-text></mj-column></mj-section></mj-body></mjml>",
                ),
                None,
            ),
        ),
        ("plain", Kind::Layout, variant("en", "", html("<body>{% content %}</body>"), None)),
        ("foot", Kind::Partial, variant("en", "", html("<i>Harkara</i>"), None)),
        ("broken", Kind::Partial, variant("en", "", mjml("<mj-text>"), None)),
    ];
    let section = "<mj-section><mj-column><mj-text>\nHello {{ name }}</mj-text></mj-column></mj-section>";
    let publish_in = |layout: &str, source: &str| {
        let mut draft = message(vec![variant("en", "s", mjml(source), None)], names(&["name"]));
        draft.layout = Some(key(layout));
        publish(&draft, &library(&pieces))
    };
    let made = publish_in("mail", section).unwrap().remove(0).parts.html.unwrap();
    assert!(made.contains("Hello {{ name }}") && made.contains("<i>Harkara</i>"), "{made}");
    let told_in = |layout: &str, source: &str| told(&publish_in(layout, source).unwrap_err());
    assert_eq!(told_in("plain", section), ["/variants/0/mjml the layout `plain` has no MJML to put this in"]);
    assert_eq!(told_in("none", section), ["/variants/0/mjml there is no published layout `none`"]);
    // A mistake is told in the lines of the piece that its author wrote.
    assert_eq!(
        told_in("mail", &section.replace("</mj-text>", "</mj-txt>")),
        ["/variants/0/mjml 2:17 `<mj-text>` must be closed first"]
    );
    let errors = told_in("mail", "<mj-section><mj-column>{% include 'broken' %}</mj-column></mj-section>");
    assert_eq!(errors, ["/variants/0/mjml 1:46 `<mj-text>` must be closed first"]);
}

#[test]
fn style_sheets_of_html_move_into_attributes_and_tags_stay() {
    let source = "<style>p{color:{{ colour }}}@media print{p{x:1}}</style>{% for x in rows %}<p class=\"{% if x %}a{% endif %}\">{{ x }}</p>{% endfor %}";
    let made = publish_html(source, &[]).unwrap();
    assert_eq!(
        made,
        "<style>p{color:{{ colour }}}@media print{p{x:1}}</style>{% for x in rows %}<p class=\"{% if x %}a{% endif %}\" style=\"color:{{ colour }}\">{{ x }}</p>{% endfor %}"
    );
    assert_eq!(
        publish_html("<style>p{x:1}@media print{p{x:1}}</style><p>{{ a }}</p>", &[]).unwrap(),
        "<style>@media print{p{x:1}}\n</style><p style=\"x:1\">{{ a }}</p>"
    );
}

#[test]
fn variables_are_read_or_refused_by_pointer() {
    let parse = |declared: Value| Variables::parse(&declared);
    let read = parse(json!({"a": {"type": "money", "example": {"amount": "1.50", "currency": "INR"}, "description": "d"}, "b": {"type": "list", "required": false}})).unwrap();
    let kinds: Vec<_> = read.iter().map(|(name, variable)| (name, variable.kind, variable.is_required)).collect();
    assert_eq!(kinds, [("a", VariableType::Money, true), ("b", VariableType::List, false)]);
    for (declared, wanted) in [
        (json!([]), vec![""]),
        (json!({"a": 1}), vec!["/a"]),
        (json!({"a": {"type": "text", "example": 1}}), vec!["/a/type"]),
        (json!({"a": {"type": "string"}}), vec!["/a/example"]),
        (json!({"a": {"type": "string", "example": 1}}), vec!["/a/example"]),
        (
            json!({"a": {"type": "string", "example": "x", "required": 1, "description": 2, "more": 3}}),
            vec!["/a", "/a/required", "/a/description"],
        ),
        (json!({"1a": {"type": "string", "example": "x"}}), vec!["/1a"]),
        (json!({"a/b~": {"type": "string", "example": "x"}}), vec!["/a~1b~0"]),
        (
            json!({"recipient": {"type": "string", "example": "x"}, "loop": {"type": "string", "example": "x"}}),
            vec!["/loop", "/recipient"],
        ),
    ] {
        let pointers: Vec<String> =
            parse(declared.clone()).unwrap_err().into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, wanted, "{declared}");
    }
    let many: serde_json::Map<String, Value> =
        (0..101).map(|n| (format!("a{n}"), json!({"type": "string", "example": "x"}))).collect();
    assert_eq!(parse(Value::Object(many)).unwrap_err()[0].0, "");
}

#[test]
fn data_is_checked_by_its_declarations() {
    let right = [
        ("string", json!("")),
        ("number", json!(1.5)),
        ("integer", json!(-1)),
        ("boolean", json!(false)),
        ("date", json!("2026-02-28")),
        ("datetime", json!("2026-11-21T20:00:00+05:30")),
        ("money", json!({"amount": 1, "currency": "INR"})),
        ("url", json!("https://example.in/x")),
        ("email", json!("a@example.in")),
        ("list", json!([])),
        ("object", json!({})),
    ];
    let wrong = [
        ("string", json!(1)),
        ("number", json!("1")),
        ("integer", json!(1.5)),
        ("boolean", json!("true")),
        ("date", json!("2026-02-30")),
        ("date", json!("2026-11-21T20:00:00Z")),
        ("datetime", json!("2026-11-21")),
        ("money", json!({"amount": "x", "currency": "INR"})),
        ("money", json!({"amount": "1", "currency": "inr"})),
        ("money", json!(5)),
        ("url", json!("javascript:x")),
        ("url", json!("https://")),
        ("url", json!("http:///x")),
        ("email", json!("a")),
        ("list", json!({})),
        ("object", json!([])),
    ];
    let declared = |kind: &str| {
        let example = right.iter().find(|(name, _)| *name == kind).map(|(_, example)| example.clone());
        Variables::parse(&json!({"x": {"type": kind, "example": example}, "y": {"type": kind, "required": false}}))
            .unwrap()
    };
    for (kind, value) in &right {
        assert_eq!(check_data(&declared(kind), &json!({"x": value, "y": null, "more": 1})), Ok(()), "{kind}");
        let missing = check_data(&declared(kind), &json!({"x": null})).unwrap_err();
        assert_eq!(missing, [("/data/x".to_owned(), "is required by the template".to_owned())]);
    }
    for (kind, value) in &wrong {
        let errors = check_data(&declared(kind), &json!({"x": value, "y": value})).unwrap_err();
        let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/data/x", "/data/y"], "{kind} {value}");
        assert!(errors.iter().all(|(_, detail)| detail.starts_with("must")));
    }
    assert_eq!(check_data(&declared("string"), &json!([])).unwrap_err()[0].0, "/data");
}
