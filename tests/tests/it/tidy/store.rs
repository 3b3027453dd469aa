//! Every way into the store is a tenant's, or says that it is not.

use super::sources::{Source, read_sources};
use std::str::FromStr;
use syn::{FnArg, ImplItem, Item, Signature, Type, Visibility};

/// What stays within one tenant takes one of these.
const TENANT_TYPES: &[&str] = &["TenantTransaction", "TenantId", "Caller"];

/// Functions that neither take a tenant nor say that they cross tenants, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("database.rs", "opens the way in; Database::begin is where a tenant is set"),
    ("logins.rs", "says how to get in, before there is any tenant"),
    ("migrations.rs", "what a deploy does, as the admin, to the schema and the list of tenants"),
    ("due_deliveries.rs TakenBatch::write_steps", "ends what take_due_across_tenants has begun"),
    ("feedback.rs TakenFeedback::write_feedback", "ends what take_feedback_across_tenants has begun"),
];

/// The asynchronous functions that others can call, as `Type::name` or `name`.
fn list_entries(source: &Source) -> Vec<(String, Signature)> {
    let stream = proc_macro2::TokenStream::from_str(&source.text).expect("Rust");
    let file: syn::File = syn::parse2(stream).unwrap_or_else(|error| panic!("{}: {error}", source.path));
    let mut entries = Vec::new();
    for item in file.items {
        match item {
            Item::Fn(function) => entries.push((function.vis, function.sig.ident.to_string(), function.sig)),
            Item::Impl(block) => {
                let ty = type_name(&block.self_ty);
                for item in block.items {
                    if let ImplItem::Fn(method) = item {
                        entries.push((method.vis, format!("{ty}::{}", method.sig.ident), method.sig));
                    }
                }
            }
            _ => {}
        }
    }
    let callable = entries.into_iter().filter(|(visibility, _, signature)| {
        !matches!(visibility, Visibility::Inherited) && signature.asyncness.is_some()
    });
    callable.map(|(_, name, signature)| (name, signature)).collect()
}

/// The last word of a type's path, behind any reference: `TenantId` of `&domain::id::TenantId`.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Reference(reference) => type_name(&reference.elem),
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default(),
        _ => String::new(),
    }
}

fn takes_a_tenant(signature: &Signature) -> bool {
    signature.inputs.iter().any(|input| match input {
        FnArg::Receiver(_) => false,
        FnArg::Typed(argument) => TENANT_TYPES.contains(&type_name(&argument.ty).as_str()),
    })
}

#[test]
fn every_store_function_takes_a_tenant_or_says_that_it_crosses_tenants() {
    let sources = read_sources();
    let mut looked_at = 0;
    for source in sources.iter().filter(|source| source.is_in(&["shared/adapters/src/store/"])) {
        let file = source.path.rsplit('/').next().expect("a name");
        for (name, signature) in list_entries(source) {
            looked_at += 1;
            let is_exception = EXCEPTIONS.iter().any(|(place, _)| *place == file || *place == format!("{file} {name}"));
            assert!(
                is_exception || name.ends_with("_across_tenants") || takes_a_tenant(&signature),
                "{}: {name}: take a TenantTransaction, or a tenant, or call it {name}_across_tenants",
                source.path
            );
        }
    }
    assert!(looked_at > 10, "{looked_at} functions");
}

#[test]
fn nobody_calls_a_function_that_crosses_tenants_for_one_tenant() {
    for source in read_sources().iter().filter(|source| source.is_in(&["shared/flow/src/"])) {
        let crosses = source.text.contains("_across_tenants(");
        let serves_all = [
            "processor.rs",
            "template_cache.rs",
            "dispatcher.rs",
            "flow/src/digest.rs",
            "flow/src/collections.rs",
            "reminder.rs",
            "door.rs",
            "feedback.rs",
            "dead_letter.rs",
            "maintenance.rs",
            "outbox.rs",
            "flow/src/domain_job.rs",
            "flow/src/escalation.rs",
            "flow/src/stranded.rs",
        ];
        assert!(
            !crosses || serves_all.iter().any(|file| source.path.ends_with(file)),
            "{}: a caller of the API stays within its tenant",
            source.path
        );
    }
}
