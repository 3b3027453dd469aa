//! What templates may do, and what becomes of those that try more.

use proptest::prelude::*;
use serde_json::json;

use super::compiled::{MAX_CONTEXT_DEPTH, VALUE_BYTES, engine_of};
use super::*;

fn source(subject: &str, text: Option<&str>, html: Option<&str>) -> TemplateSource {
    TemplateSource { subject: subject.to_owned(), text: text.map(str::to_owned), html: html.map(str::to_owned) }
}

/// Renders for somebody who reads English, in UTC.
fn render_template(source: &TemplateSource, data: &serde_json::Value) -> Result<Rendered, RenderError> {
    super::render_template(source, data, &Formats::default())
}

fn render_text(template: &str, data: &serde_json::Value) -> Result<String, RenderError> {
    render_template(&source("s", Some(template), None), data)
        .map(|rendered| rendered.text.expect("the source has a text part"))
}

fn render_html(template: &str, data: &serde_json::Value) -> Result<String, RenderError> {
    render_template(&source("s", None, Some(template)), data)
        .map(|rendered| rendered.html.expect("the source has an HTML part"))
}

fn kind_of<T: fmt::Debug>(result: Result<T, RenderError>) -> RenderErrorKind {
    result.expect_err("it should fail").kind
}

fn booking() -> serde_json::Value {
    json!({
        "city": "Pune",
        "fee": 1250.5,
        "count": 3,
        "note": "a\nb <c>",
        "items": [{"name": "Rice", "price": 40}, {"name": "Dal", "price": 2.5}],
        "tags": ["b", "a", "b"],
        "empty": [],
        "recipient": {"id": "r-1", "name": null, "email": "a@example.in"},
        "notification": {"id": "ntf_1", "category": "booking"},
    })
}

#[test]
fn a_template_prints_its_data() {
    let cases = [
        ("Hello {{ city }}!", "Hello Pune!"),
        ("{{ fee }} {{ count }} {{ true }}", "1250.5 3 True"),
        ("{{ items[0].name }} {{ items.1.price }} {{ tags[-1] }}", "Rice 2.5 b"),
        (
            "{% for item in items %}{{ loop.index }}. {{ item.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "1. Rice, 2. Dal",
        ),
        ("{% for x in empty %}x{% else %}none{% endfor %}", "none"),
        ("{% for tag in tags if tag != 'b' %}{{ tag }}{% endfor %}", "a"),
        (
            "{% for label, value in [('City', city), ('Fee', fee)] %}{{ label }}: {{ value }};{% endfor %}",
            "City: Pune;Fee: 1250.5;",
        ),
        ("{% for key, value in notification|items %}{{ key }}={{ value }} {% endfor %}", "category=booking id=ntf_1 "),
        (
            "{% for i in items %}{% if loop.changed(i.name) %}{{ loop.cycle('odd', 'even') }} {% endif %}{% endfor %}",
            "odd even ",
        ),
        ("{% if count > 2 and city == 'Pune' %}many{% elif count %}some{% else %}none{% endif %}", "many"),
        ("{{ 'x' if count is odd else 'y' }}{{ 'z' if count is even }}", "x"),
        ("{{ 1 <= count <= 3 }} {{ 'a' in tags }} {{ city not in ['Goa'] }}", "True True True"),
        (
            "{{ count + 1 }} {{ count - 1 }} {{ count|int * fee|float }} {{ fee / 2 }} {{ 7 // 2 }} {{ 7 % 2 }} {{ -count }}",
            "4 2 3751.5 625.25 3 1 -3",
        ),
        ("{{ items|sum(attribute='price') }} {{ items|map(attribute='name')|join(', ') }}", "42.5 Rice, Dal"),
        ("{{ items|sort(attribute='price')|map(attribute='price')|first }} {{ tags|unique|sort|join }}", "2.5 ab"),
        ("{{ tags|length }} {{ tags|last }} {{ tags|reverse|first }} {{ tags|min }} {{ tags|max }}", "3 b b a b"),
        (
            "{{ city|upper }} {{ city|lower }} {{ 'o\\'brien x'|title }} {{ 'ABC'|capitalize }} {{ ' x '|trim }}.",
            "PUNE pune O'brien X Abc x.",
        ),
        (
            "{{ city|replace('P', 'T') }} {{ 'abcdef'|truncate(3) }} {{ 'abc'|truncate(3, end='!') }} {{ 'a,b'|split(',')|join('-') }}",
            "Tune abc… abc a-b",
        ),
        (
            "{{ 3.14159|round(2) }} {{ '42'|int }} {{ '1.5'|float }} {{ -3|abs }} {{ 'n/a'|int(default=0) }}",
            "3.14 42 1.5 3 0",
        ),
        ("{{ city|urlencode }} {{ 'a b&c'|urlencode }}", "Pune a%20b%26c"),
        (
            "{{ missing|default('x') }} {{ missing|d }}.{{ recipient.name|default('friend') }} {{ ''|default('y', true) }}{{ ''|default('z', boolean=true) }}",
            "x .friend yz",
        ),
        ("{% if recipient.name %}Dear {{ recipient.name }}{% else %}Hello{% endif %}", "Hello"),
        ("{{ missing is defined }} {{ recipient.name is none }} {{ city is startingwith('P') }}", "False True True"),
        ("{# a comment #}{% raw %}{{ city }}{% endraw %}", "{{ city }}"),
        ("{{ note|nl2br }}", "a\nb <c>"),
        ("line\n", "line"),
    ];
    for (template, wanted) in cases {
        assert_eq!(render_text(template, &booking()).as_deref(), Ok(wanted), "{template}");
    }
}

#[test]
fn a_compiled_template_renders_for_each_recipient_as_if_it_were_new() {
    fn assert_shared<T: Send + Sync + 'static>(_: &T) {}
    let source = source(
        "{{ city }}",
        Some("{{ due|date }}"),
        Some("<p>{{ city }} {% for i in items %}{{ i.name }}{% endfor %}</p>"),
    );
    let compiled = CompiledTemplate::new(source.clone()).unwrap();
    assert_shared(&compiled);
    assert!(compiled.size_bytes() > source.html.as_ref().unwrap().len());
    for (city, locale, zone) in [("Pune", "hi", "Asia/Kolkata"), ("<Goa>", "en", "UTC"), ("Pune", "hi", "Asia/Kolkata")]
    {
        let mut data = booking();
        data["city"] = json!(city);
        data["due"] = json!("2026-11-21T20:00:00Z");
        let formats = Formats::of(locale, zone);
        assert_eq!(compiled.render(&data, &formats), super::render_template(&source, &data, &formats));
    }
    // What one render used up, or how much data it had, is nothing to the next.
    let heavy = json!({"city": "x".repeat(400_000), "due": "2026-11-21", "items": []});
    assert_eq!(kind_of(compiled.render(&heavy, &Formats::default())), RenderErrorKind::TooLarge);
    let mut data = booking();
    data["due"] = json!("2026-11-21");
    assert_eq!(compiled.render(&data, &Formats::default()).unwrap().text.as_deref(), Some("November 21, 2026"));
}

#[test]
fn parts_that_are_absent_stay_absent() {
    let rendered = render_template(&source("Fee for {{ city }}\n", None, None), &booking()).unwrap();
    assert_eq!(rendered.subject.as_str(), "Fee for Pune");
    assert_eq!((rendered.text, rendered.html), (None, None));
}

#[test]
fn html_is_escaped_and_subject_and_text_are_not() {
    let template = "{{ x }}";
    let data = json!({"x": "<b>&\"'/"});
    let rendered = render_template(&source(template, Some(template), Some(template)), &data).unwrap();
    assert_eq!(rendered.subject.as_str(), "<b>&\"'/");
    assert_eq!(rendered.text.as_deref(), Some("<b>&\"'/"));
    assert_eq!(rendered.html.as_deref(), Some("&lt;b&gt;&amp;&quot;&#x27;&#x2f;"));
}

#[test]
fn nothing_that_a_template_can_say_turns_escaping_off() {
    let data = json!({"x": "<b>", "list": ["<b>"], "map": {"<i>": "<b>"}});
    for expression in [
        "x",
        "x|upper",
        "x|lower",
        "x|capitalize",
        "x|title",
        "x|trim",
        "x|replace('q', '<i>')",
        "x|truncate(2)",
        "x|default('')",
        "none|default('<b>')",
        "'<b>'",
        "list[0]",
        "list|first",
        "list|last",
        "list|join",
        "list|reverse|first",
        "list|map(attribute='q', default='<b>')|join",
        "x|split('q')|first",
        "x|e|upper",
        "x|e|reverse",
        "x|e|last",
        "x|e|first",
        "x|e|replace('&lt;', '<')",
        "x|nl2br",
        "x|e",
        "x|e|e",
        "x|e|truncate(9)",
        "x|e|default('')",
        "[x]|join('<br>')",
        "x if x else x",
        "map|items|first|first",
        "x|e|split(';')|first",
        "x|nl2br|trim",
        "x|e|string",
        "x|safe",
    ] {
        match render_html(&format!("{{{{ {expression} }}}}"), &data) {
            Ok(html) => assert!(!html.contains(['<', '>']), "{expression}: {html}"),
            Err(error) => assert_eq!(error.kind, RenderErrorKind::NotAllowed, "{expression}: {error}"),
        }
    }
    assert_eq!(render_html("{{ x|nl2br }}", &json!({"x": "a\r\nb\n<c>"})).as_deref(), Ok("a<br>\nb<br>\n&lt;c&gt;"));
}

#[test]
fn what_a_template_is_called_decides_nothing() {
    // The engine's own rule looks at the ending of the name, and there is none here.
    let environment = engine_of(Part::Html);
    for name in ["tpl-123", "a.txt", "subject", "a.html", "x.json"] {
        let template = environment.template_from_named_str(name, "{{ x }}").unwrap();
        let html = template.render(minijinja::Value::from(minijinja::value::Serde(json!({"x": "<"})))).unwrap();
        assert_eq!(html, "&lt;", "{name}");
    }
}

#[test]
fn a_missing_or_null_variable_is_an_error_that_names_it() {
    let cases = [
        ("\n{{ missing }}", 2, "`missing` is undefined"),
        ("{{ recipient.nam }}", 1, "`recipient.nam` is undefined"),
        ("{{ missing.a }}", 1, "`missing` is undefined"),
        ("{% if missing %}{% endif %}", 1, "`missing` is undefined"),
        ("{% for x in missing %}{% endfor %}", 1, "`missing` is undefined"),
        ("a\nb {{ recipient.name }}", 2, "recipient.name"),
        ("{{ recipient.name|upper }}", 1, "recipient.name|upper"),
        ("{{ missing|upper }}", 1, "missing|upper"),
        ("{{ missing + 1 }}", 1, ""),
        ("{{ items[7].name }}", 1, ""),
    ];
    for (template, line, wanted) in cases {
        let error = render_text(template, &booking()).unwrap_err();
        assert!(
            matches!(error.kind, RenderErrorKind::MissingVariable | RenderErrorKind::Other),
            "{template}: {error:?}"
        );
        assert_eq!((error.part, error.line), (Part::Text, Some(line)), "{template}");
        assert!(error.detail.contains(wanted), "{template}: {error}");
    }
}

#[test]
fn an_error_never_quotes_data() {
    let data = json!({
        "secret": "asha@example.in", "big": 170141183460469231731687303715884105727_i128 as f64,
        "list": ["asha@example.in"], "map": {"asha@example.in": "asha@example.in"}, "none": null,
    });
    for expression in [
        "secret - 1",
        "secret / 1",
        "secret + 1",
        "-secret",
        "secret|int",
        "secret|float",
        "secret|round",
        "secret|items",
        "list",
        "map",
        "secret.x.y",
        "list|sum",
        "secret|abs",
        "list|map(attribute='x')|join",
        "secret[secret]",
        "map[secret].x",
        "list[secret].x",
        "secret|truncate(secret)",
        "list|join(list)",
        "secret|truncate(-1)",
        "1 // 0",
        "1 % 0",
        "1 / 0 - secret",
        "secret is even",
        "secret|sort(attribute=secret)",
        "list|sort(by=secret)",
        "none.x",
        "1 in 1",
        "secret in 1",
        "list|min(secret)",
        "secret < 1",
        "loop.index",
        "secret|default(secret, secret)|int",
        "list|unique(case=secret)",
    ] {
        for template in [format!("{{{{ {expression} }}}}"), format!("{{% for a, b in {expression} %}}{{% endfor %}}")] {
            if let Err(error) = render_text(&template, &data) {
                let whole = format!("{error} {error:?}");
                assert!(!whole.contains("asha"), "{template}: {whole}");
                assert!(!whole.contains("17014118"), "{template}: {whole}");
            }
        }
    }
}

#[test]
fn what_is_no_template_is_a_syntax_error_with_its_line() {
    for template in [
        "{{",
        "{{ }}",
        "{{ a",
        "{% if a %}",
        "{% endif %}",
        "{% for %}{% endfor %}",
        "{% for x y %}{% endfor %}",
        "{{ a b }}",
        "{{ 'a }}",
        "{{ a| }}",
        "{{ a is }}",
        "{{ '\\u12' }}",
        "{#",
        "{% raw %}",
        "{{ a..b }}",
        "{{ [a, }}",
        "{{ 1 2 }}",
        "{% else %}",
        "{% if a %}{% else %}{% else %}{% endif %}",
        "{% elif a %}",
    ] {
        let source = source("s", Some(&format!("x\n{template}")), None);
        let error = check_template(&source).unwrap_err();
        assert_eq!(error.kind, RenderErrorKind::Syntax, "{template}: {error}");
        assert_eq!(error.part, Part::Text);
        assert!(error.line.is_some_and(|line| line <= 2), "{template}: {error:?}");
        assert_eq!(render_template(&source, &booking()), Err(error));
    }
}

#[test]
fn what_templates_of_tenants_do_not_have_is_refused_when_stored() {
    let statements = [
        "{% set x = 1 %}",
        "{% set x %}a{% endset %}",
        "{% with x = city %}{{ x }}{% endwith %}",
        "{% macro m() %}{% endmacro %}",
        "{% call m() %}{% endcall %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% do f() %}",
        "{% autoescape false %}{{ city }}{% endautoescape %}",
        "{% filter upper %}a{% endfilter %}",
        "{% for x in tags recursive %}{{ loop(x) }}{% endfor %}",
        "{% break %}",
        "{% continue %}",
        "{% debug %}",
        "{%- set x = 1 -%}",
        "{%+ set x = 1 %}",
    ];
    let expressions = [
        "city|safe",
        "city|tojson",
        "city|pprint",
        "city|indent(99)",
        "city|center(99)",
        "city|format(1)",
        "city|list",
        "city|string",
        "city|batch(2)",
        "city|slice(2)",
        "city|groupby('a')",
        "city|select",
        "city|zip(city)",
        "city|chain(city)",
        "city|attr('x')",
        "city|dictsort",
        "city|lines",
        "city|minijinja",
        "city|a.b",
        "range(9)",
        "namespace()",
        "debug()",
        "dict()",
        "city()",
        "city.upper()",
        "recipient.name.x()",
        "self.b()",
        "super()",
        "lipsum()",
        "cycler('a')",
        "joiner()",
        "caller()",
        "loop",
        "loop.cycle(1)",
        "loop(1)",
        "loop.index",
        "city ~ city",
        "city + city",
        "tags + tags",
        "city * 3",
        "3 * city",
        "tags * 3",
        "city ** 2",
        "2 ** 9",
        "'a' * 100000000",
        "'a' ~ 'b'",
        "count * 2",
        "count|int * city",
        "count|default('a') * 3",
        "city[::2]",
        "city[::-1]",
        "city[1:]",
        "city[:1]",
        "tags[count:]",
        "city[:]",
        "{'a': city}",
        "{}",
        "[city|upper]",
        "[[[1]]]",
        "[tags|sort]",
        "[tags[count]]",
        "city is divisibleby(0)",
        "city is sameas(1)",
        "city is filter",
        "city is safe",
        "city is escaped",
        "city|join(*tags)",
        "city|join(**recipient)",
        "city|default(city ~ city)",
        "tags[city ~ city]",
        "1 if city ~ city else 2",
        "not (city ~ city)",
        "(city ~ city).x",
        "city in (city ~ city)",
        "city == city ~ city",
        "city < city < city ~ city",
        "city is eq(city ~ city)",
        "(city ~ city)|upper",
    ];
    let in_a_loop = [
        "loop",
        "[loop]",
        "loop.changed(loop)",
        "loop.cycle()",
        "loop.changed()",
        "loop.cycle(*tags)",
        "loop.previtem",
        "loop.x()",
        "loop('a')",
        "[[x]]",
        "[(x, x)]",
        "[[x.a]]",
        "[[x[0]]]",
        "[[y, x]]",
        "loop|e",
        "loop['index']",
        "x * 2",
    ];
    let mut templates: Vec<String> = statements.map(str::to_owned).to_vec();
    templates.extend(expressions.map(|expression| format!("{{{{ {expression} }}}}")));
    templates.extend(expressions.map(|expression| format!("{{% if ({expression}) %}}{{% endif %}}")));
    templates.extend(expressions.map(|expression| format!("{{% for q in ({expression}) %}}{{% endfor %}}")));
    templates.extend(in_a_loop.map(|expression| {
        format!("{{% for x, y in tags %}}{{% if x %}}{{{{ {expression} }}}}{{% endif %}}{{% endfor %}}")
    }));
    for template in templates {
        let source = source("s", None, Some(&format!("\n{template}")));
        let error = check_template(&source).expect_err(&template);
        assert_eq!(error.kind, RenderErrorKind::NotAllowed, "{template}: {error}");
        assert_eq!((error.part, error.line), (Part::Html, Some(2)), "{template}: {error}");
        assert_eq!(render_template(&source, &booking()), Err(error), "{template}");
    }
}

#[test]
fn every_listed_filter_and_test_is_there_and_no_other() {
    let environment = engine_of(Part::Text);
    let debug = format!("{environment:?}");
    for name in filters::FILTERS {
        assert!(debug.contains(&format!("{name:?}")), "{name}");
        let known = environment.compile_expression("1").is_ok()
            && !matches!(
                environment.render_str(&format!("{{{{ 'a'|{name} }}}}"), ()),
                Err(error) if error.kind() == minijinja::ErrorKind::UnknownFilter
            );
        assert!(known, "{name}");
    }
    for name in filters::TESTS {
        let result = environment.render_str(&format!("{{{{ 'a' is {name} }}}}"), ());
        assert!(!matches!(result, Err(error) if error.kind() == minijinja::ErrorKind::UnknownTest), "{name}");
    }
    for name in filters::NUMBER_FILTERS {
        assert!(filters::FILTERS.contains(&name));
    }
    assert_eq!(environment.globals().count(), 0);
}

#[test]
fn a_number_filter_gives_numbers_only() {
    for expression in [
        "'x'|int(default='a')",
        "'x'|int('a')",
        "'x'|float(default='a')",
        "tags|sum(start='a')",
        "empty|sum(start='a')",
        "true|abs",
        "'x'|round",
        "tags|sum",
    ] {
        let template = format!("{{{{ {expression} * 100000000|int }}}}");
        assert_eq!(kind_of(render_text(&template, &booking())), RenderErrorKind::Other, "{expression}");
    }
}

#[test]
fn a_subject_is_one_line_or_an_error() {
    let data = json!({"x": "a\r\nBcc: b@example.in", "y": ""});
    for subject in ["{{ x }}", "a\nb", "{{ y }}", "\u{0}x", "{{ 'a\\nb' }}"] {
        let error = render_template(&source(subject, None, None), &data).unwrap_err();
        assert_eq!((error.part, error.kind), (Part::Subject, RenderErrorKind::BadSubject), "{subject:?}");
        assert!(!error.to_string().contains("Bcc"), "{error}");
    }
    let long = source(&"x".repeat(999), None, None);
    assert_eq!(kind_of(render_template(&long, &data)), RenderErrorKind::BadSubject);
}

#[test]
fn a_link_of_the_html_part_runs_no_script() {
    let template = "<a href=\"{{ x }}\">x</a>";
    assert_eq!(kind_of(render_html(template, &json!({"x": "javascript:alert(1)"}))), RenderErrorKind::NotAllowed);
    assert!(render_html(template, &json!({"x": "https://example.in/?a=1&b=2"})).is_ok());
}

#[test]
fn data_has_limits() {
    assert_eq!(kind_of(check_context(&json!([1]))), RenderErrorKind::Other);
    assert!(check_context(&json!({})).is_ok());
    let text = |count: usize| json!({"x": "a".repeat(count)});
    assert!(check_context(&text(MAX_CONTEXT_BYTES - 129)).is_ok());
    assert_eq!(kind_of(check_context(&text(MAX_CONTEXT_BYTES - 128))), RenderErrorKind::TooLarge);
    let many = json!({"x": vec![1; MAX_CONTEXT_BYTES / VALUE_BYTES]});
    assert_eq!(kind_of(check_context(&many)), RenderErrorKind::TooLarge);
    let nest = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert!(check_context(&json!({"x": nest(MAX_CONTEXT_DEPTH - 1)})).is_ok());
    let error = check_context(&json!({"x": nest(MAX_CONTEXT_DEPTH)})).unwrap_err();
    assert_eq!((error.part, error.kind), (Part::Data, RenderErrorKind::TooLarge));
    assert_eq!(kind_of(render_text("x", &many)), RenderErrorKind::TooLarge);
}

#[test]
fn source_and_output_have_limits() {
    let long = "x".repeat(MAX_SOURCE_BYTES);
    assert_eq!(render_text(&long, &json!({})).map(|text| text.len()), Ok(MAX_RENDERED_BYTES));
    assert_eq!(kind_of(render_text(&format!("{long}x"), &json!({}))), RenderErrorKind::TooLarge);
    let data = json!({"x": "x".repeat(MAX_RENDERED_BYTES)});
    assert_eq!(render_text("{{ x }}", &data).map(|text| text.len()), Ok(MAX_RENDERED_BYTES));
    assert_eq!(kind_of(render_text("{{ x }}x", &data)), RenderErrorKind::TooLarge);
}

/// What a hostile template can try, and how each try ends.
#[test]
fn a_bomb_ends_in_an_error_and_not_in_memory() {
    let data = json!({
        "s": "&".repeat(100_000),
        "other": format!("{}x", "&".repeat(100_000)),
        "rows": (0..300).collect::<Vec<_>>(),
        "words": "a ".repeat(50_000),
        "lists": vec![vec![0; 50]; 20],
    });
    let nested_loops = |body: &str| format!("{}{body}{}", "{% for a in rows %}".repeat(4), "{% endfor %}".repeat(4));
    let cases = [
        // Steps without output, with output, and with a large text each.
        (nested_loops(""), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if a == 1 %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops(&"x".repeat(500)), RenderErrorKind::TooLarge),
        (nested_loops("{{ s }}"), RenderErrorKind::TooLarge),
        (nested_loops("{% if s == other %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if 'x' in s %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if rows == lists %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if -1 in rows %}{% endif %}"), RenderErrorKind::OutOfFuel),
        // Filters that read or write much.
        (nested_loops("{% if s|upper %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if rows|sort|last %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if words|split|length %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if s|reverse|length %}{% endif %}"), RenderErrorKind::OutOfFuel),
        (nested_loops("{% if lists|map(attribute='x', default=s)|length %}{% endif %}"), RenderErrorKind::OutOfFuel),
        // Texts that grow.
        ("{{ s|replace('&', s) }}".to_owned(), RenderErrorKind::OutOfFuel),
        ("{{ s|replace('&', 'aaaaaaaaaa')|replace('a', 'aaaaaaaaaa')|replace('a', 'aaaaaaaaaa') }}".to_owned(), RenderErrorKind::OutOfFuel),
        (format!("{{{{ [{}]|join(s) }}}}", ["s"; 60].join(",")), RenderErrorKind::OutOfFuel),
        ("{{ rows|join(s) }}".to_owned(), RenderErrorKind::OutOfFuel),
        ("{{ s|e|upper|e|upper|e|upper|e }}".to_owned(), RenderErrorKind::OutOfFuel),
        (format!("{{{{ s{} }}}}", "|urlencode".repeat(40)), RenderErrorKind::OutOfFuel),
        ("{{ 'a'|truncate(0, end=s)|replace('&', s) }}".to_owned(), RenderErrorKind::OutOfFuel),
        ("{{ s|nl2br }}".to_owned(), RenderErrorKind::OutOfFuel),
        ("{{ s|escape }}".to_owned(), RenderErrorKind::OutOfFuel),
        // A list bound where a text is meant, to be searched in each step.
        ("{% for a in rows|map(attribute='x', default=words|split) %}{% endfor %}".to_owned(), RenderErrorKind::Other),
        // Doubling by every way to bind.
        ("{% for a in [s, s]|join|split('|') %}{% for b in [a, a]|join|split('|') %}{% for c in [b, b]|join|split('|') %}{% for d in [c, c]|join|split('|') %}{{ d }}{% endfor %}{% endfor %}{% endfor %}{% endfor %}".to_owned(), RenderErrorKind::OutOfFuel),
        ("{% for a in [[rows, rows]] %}{% for b in [[a, a]] %}{% endfor %}{% endfor %}".to_owned(), RenderErrorKind::NotAllowed),
        ("{% for a in 'x' %}{% set s = s ~ s %}{% endfor %}".to_owned(), RenderErrorKind::NotAllowed),
        // Numbers that would be long, and texts that are folded while compiling.
        ("{{ 10 ** 1000000000 }}".to_owned(), RenderErrorKind::NotAllowed),
        ("{{ 'a' * 1000000000 }}".to_owned(), RenderErrorKind::NotAllowed),
        ("{{ 99999999999999999999999999999999999999 * 99999999999999999999999999999999999999 }}".to_owned(), RenderErrorKind::Other),
        // Depth, of every kind that the parser recurses on.
        (format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ {}1 }}}}", "-".repeat(100_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ {}1 }}}}", "not ".repeat(60_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ 1{} }}}}", "+1".repeat(100_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(20_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ s{} }}}}", ".a".repeat(100_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ s{} }}}}", "|e".repeat(100_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ s{} }}}}", "[0]".repeat(80_000)), RenderErrorKind::NotAllowed),
        (format!("{{{{ {} }}}}", "[".repeat(200_000)), RenderErrorKind::NotAllowed),
        ("{% if 1 %}".repeat(20_000), RenderErrorKind::NotAllowed),
        ("{% for a in s %}".repeat(15_000), RenderErrorKind::NotAllowed),
        (format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(20_000)), RenderErrorKind::NotAllowed),
        (format!("{}{}", "{% if 1 %}{% for a in rows %}".repeat(5), "{% endfor %}{% endif %}".repeat(5)), RenderErrorKind::NotAllowed),
    ];
    for (template, wanted) in cases {
        let shown = shorten(&template);
        let error = render_html(&template, &data).expect_err(&shown);
        assert_eq!(error.kind, wanted, "{shown}: {error}");
        assert!(error.detail.len() < 600, "{shown}: {error}");
    }
    assert_peak_memory_below_mib(128);
}

/// The most memory that this process ever had, so a test that runs beside counts too.
#[cfg(target_os = "linux")]
fn assert_peak_memory_below_mib(limit: usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<usize>().ok())
        .unwrap();
    assert!(peak < limit * 1024, "{peak} KiB");
}

#[cfg(not(target_os = "linux"))]
fn assert_peak_memory_below_mib(_limit: usize) {}

#[test]
fn a_table_of_500_rows_renders() {
    let cells = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let row: serde_json::Map<_, _> = cells.iter().map(|cell| ((*cell).to_owned(), json!("1234567890"))).collect();
    let data = json!({"rows": vec![row; 500]});
    let template = format!(
        "<table>{{% for row in rows %}}<tr>{}</tr>{{% endfor %}}</table>",
        cells.map(|cell| format!("<td>{{{{ row.{cell} }}}}</td>")).concat()
    );
    let html = render_html(&template, &data).unwrap();
    assert_eq!(html.matches("<td>1234567890</td>").count(), 4000);
}

#[test]
fn the_deepest_template_that_is_allowed_renders() {
    let tag = format!("{{{{ {}count{} }}}}", "(".repeat(40), ")".repeat(40));
    let minus = format!("{{{{ {}count }}}}", "-".repeat(100));
    let template = format!(
        "{}{tag}{minus}{}",
        "{% if 1 %}".repeat(28) + &"{% for a in tags %}".repeat(4),
        "{% endfor %}".repeat(4) + &"{% endif %}".repeat(28),
    );
    assert_eq!(render_text(&template, &booking()).map(|text| text.len()), Ok(3_usize.pow(4) * "33".len()));
}

#[test]
fn empty_values_are_no_trouble() {
    let data = json!({"e": "", "l": [], "s": "añb", "n": 2});
    for (expression, wanted) in [
        ("e|first|default('x')", "x"),
        ("l|reverse|length", "0"),
        ("e|capitalize", ""),
        ("e|urlencode", ""),
        ("e|trim", ""),
        ("l|first|default('x')", "x"),
        ("l|last|default('x')", "x"),
        ("l|join", ""),
        ("l|sum", "0"),
        ("e|title", ""),
        ("e|truncate(0)", ""),
        ("s|truncate(0)", "…"),
        ("e|split(',')|length", "1"),
        ("e|split|length", "0"),
        ("n|upper", "2"),
        ("e|reverse", ""),
        ("l|min|default('x')", "x"),
        ("e|length", "0"),
        ("s|length", "3"),
    ] {
        assert_eq!(render_text(&format!("{{{{ {expression} }}}}"), &data).as_deref(), Ok(wanted), "{expression}");
    }
}

/// Pieces that templates are made of, so that random ones get past the parser.
fn fragment() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        "for ",
        "a",
        "b",
        "s",
        "l",
        "m",
        "n",
        "z",
        " in ",
        "if ",
        " else ",
        "elif ",
        "endif",
        "endfor",
        "loop",
        ".index",
        ".cycle(",
        ".changed(",
        ".x",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
        "|",
        " is ",
        " not ",
        " and ",
        " or ",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "==",
        "<",
        "0",
        "1",
        "9223372036854775807",
        "1.5",
        "'x'",
        "''",
        "true",
        "none",
        "\n",
        "text",
        "é",
        "raw",
        "endraw",
        "recursive",
        "set ",
        "=",
        "~",
        "{",
        "}",
        "attribute=",
        "default=",
    ]);
    let filters = prop::sample::select(filters::FILTERS.to_vec()).prop_map(|name| format!("|{name}"));
    let tests = prop::sample::select(filters::TESTS.to_vec()).prop_map(|name| format!(" is {name}"));
    prop_oneof![
        5 => words.prop_map(str::to_owned),
        2 => filters,
        1 => tests,
        1 => ".{0,3}",
    ]
}

/// Expressions that mostly parse and mostly pass the grammar.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "s",
        "l",
        "m",
        "n",
        "z",
        "f",
        "e",
        "q",
        "a",
        "loop.index",
        "0",
        "1",
        "-7",
        "9223372036854775807",
        "1.5",
        "1e308",
        "'x'",
        "''",
        "'é,b'",
        "true",
        "none",
        "[]",
        "[s, n]",
        "[(s, n), (l, m)]",
        "l[0]",
        "m.k",
        "m['k']",
        "170141183460469231731687303715884105727",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let filter = prop::sample::select(filters::FILTERS.to_vec());
        let test = prop::sample::select(filters::TESTS.to_vec());
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "==", "!=", "<", ">=", " in ", " not in ", " and ", " or ",
        ]);
        prop_oneof![
            (inner.clone(), filter.clone()).prop_map(|(a, filter)| format!("({a})|{filter}")),
            (inner.clone(), filter.clone(), inner.clone()).prop_map(|(a, filter, b)| format!("({a})|{filter}({b})")),
            (inner.clone(), filter.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, filter, b, c)| format!("({a})|{filter}({b}, {c})")),
            (inner.clone(), filter, inner.clone()).prop_map(|(a, filter, b)| format!("({a})|{filter}(attribute={b})")),
            (inner.clone(), test.clone()).prop_map(|(a, test)| format!("({a}) is {test}")),
            (inner.clone(), test, inner.clone()).prop_map(|(a, test, b)| format!("({a}) is {test}({b})")),
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a}){op}({b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) if ({b}) else ({c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("loop.cycle({a}, {b})")),
            inner.clone().prop_map(|a| format!("loop.changed({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

fn fuzz_data() -> serde_json::Value {
    json!({
        "s": "<é ß\n,b>", "l": ["b", "a", 1, null, [1], {"k": 2}], "m": {"k": "v", "n": null}, "n": 3, "z": 0,
        "f": -1.5e300, "e": "", "q": [], "b": true, "x": i64::MIN,
    })
}

proptest! {
    #[test]
    fn no_text_breaks_the_engine(template in prop::collection::vec(fragment(), 0..40)) {
        let template = template.concat();
        let _ = render_html(&template, &fuzz_data());
        let _ = render_text(&template, &fuzz_data());
    }

    #[test]
    fn no_expression_breaks_the_engine(expression in expression()) {
        let data = fuzz_data();
        let _ = render_text(&format!("{{{{ {expression} }}}}"), &data);
        let template = format!(
            "{{% for a in l %}}{{% for c in {expression} %}}{{{{ c }}}}{{% else %}}{{% endfor %}}{{% if {expression} %}}{{{{ a }}}}{{% endif %}}{{% endfor %}}"
        );
        let _ = render_html(&template, &data);
        let template = format!("{{% for a in l %}}{{{{ {expression} }}}}{{% endfor %}}");
        if let Ok(html) = render_html(&template, &data) {
            prop_assert!(html.len() <= MAX_RENDERED_BYTES);
            prop_assert!(!html.replace("<br>", "").contains(['<', '>']), "{}", html);
        }
    }

    #[test]
    fn a_template_that_is_refused_when_stored_never_renders(template in prop::collection::vec(fragment(), 0..20)) {
        let source = source("s", None, Some(&template.concat()));
        if check_template(&source).is_err() {
            prop_assert!(render_template(&source, &fuzz_data()).is_err());
        }
    }
}
