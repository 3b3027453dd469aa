//! What is somebody's is not printed by `{:?}`.

use super::sources::read_sources;
use std::collections::BTreeSet;
use std::str::FromStr;
use syn::{GenericArgument, Item, ItemStruct, PathArguments, Type};

/// Names of fields that hold what is somebody's, as the database's audit hides them, and what requests carry.
const PERSONAL: &[&str] = &[
    "address",
    "answer",
    "attributes",
    "body",
    "data",
    "detail",
    "email",
    "error_detail",
    "evidence",
    "html",
    "html_body",
    "metadata",
    "name",
    "new_values",
    "old_values",
    "parameters",
    "phone",
    "query",
    "reason_detail",
    "subject",
    "text",
    "text_body",
    "to",
    "token",
];

/// Fields of these names that are nobody's.
const NOBODYS: &[(&str, &str)] = &[
    ("FieldError.detail", "says what is wrong, and never the value"),
    ("Problem.detail", "as above"),
    ("NewTenant.name", "an organisation's"),
    ("TenantRow.name", "as above"),
    ("CategoryRow.name", "what an organisation calls a category"),
    ("CategoryBody.name", "as above"),
    ("SheetCategory.name", "as above"),
];

/// Where structs hold a tenant's templates, and what is wrong with them, before anybody's data comes into them.
const TEMPLATES: &[&str] = &[
    "shared/domain/src/render.rs",
    "shared/domain/src/render/",
    "shared/domain/src/template.rs",
    "shared/domain/src/template/",
];

#[test]
fn no_struct_with_personal_data_prints_it() {
    let mut looked_at = 0;
    let mut needed = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, item) in read_structs() {
        let derives_debug = derives(&item, "Debug");
        for field in &item.fields {
            let Some(name) = field.ident.as_ref().map(ToString::to_string) else { continue };
            let is_plain = holds_text(&field.ty);
            if !PERSONAL.contains(&name.as_str()) || !is_plain {
                continue;
            }
            looked_at += 1;
            let place = format!("{}.{name}", item.ident);
            if !derives_debug {
                continue;
            }
            if NOBODYS.iter().any(|(known, _)| *known == place) {
                needed.insert(place);
            } else {
                wrong.push(format!("{path}: {place}"));
            }
        }
    }
    assert!(looked_at > 20, "{looked_at} fields");
    assert!(wrong.is_empty(), "use domain::masked_debug! in place of derive(Debug): {wrong:#?}");
    let spare: Vec<_> = NOBODYS.iter().filter(|(place, _)| !needed.contains(*place)).collect();
    assert!(spare.is_empty(), "remove the exceptions that nothing needs: {spare:?}");
}

/// Whether a type prints what is put into it: text, bytes or JSON, on its own or within another type.
fn holds_text(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => holds_text(&reference.elem),
        Type::Slice(slice) => holds_text(&slice.elem),
        Type::Tuple(tuple) => tuple.elems.iter().any(holds_text),
        Type::Path(path) => path.path.segments.iter().any(|segment| {
            let plain = ["String", "str", "Value", "u8", "Map"].contains(&segment.ident.to_string().as_str());
            let within = match &segment.arguments {
                PathArguments::AngleBracketed(arguments) => arguments.args.iter().any(|argument| match argument {
                    GenericArgument::Type(ty) => holds_text(ty),
                    _ => false,
                }),
                _ => false,
            };
            plain || within
        }),
        _ => false,
    }
}

/// The product's structs, with the files that they are in.
fn read_structs() -> Vec<(String, ItemStruct)> {
    let sources = read_sources();
    let ours = sources.iter().filter(|source| source.is_in(&["shared/", "functions/"]) && !source.is_in(TEMPLATES));
    let structs = ours.flat_map(|source| {
        let stream = proc_macro2::TokenStream::from_str(&source.text).expect("Rust");
        let file: syn::File = syn::parse2(stream).unwrap_or_else(|error| panic!("{}: {error}", source.path));
        file.items.into_iter().filter_map(|item| match item {
            Item::Struct(item) => Some((source.path.clone(), item)),
            _ => None,
        })
    });
    structs.collect()
}

fn derives(item: &ItemStruct, wanted: &str) -> bool {
    let mut found = false;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        attribute
            .parse_nested_meta(|meta| {
                found |= meta.path.is_ident(wanted);
                Ok(())
            })
            .expect("a list of traits");
    }
    found
}
