//! Compiled templates of this function instance, by version. A version never changes, so that nothing here goes stale.

use adapters::store::database::{Database, StoreError};
use adapters::store::templates::{VersionKey, load_versions_across_tenants};
use domain::render::{CompiledTemplate, RenderError, TemplateSource};
use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// About the most memory that the cache takes, in bytes: a few hundred mails.
const MAX_BYTES: usize = 24 * 1024 * 1024;

/// A template that can be rendered, or what is wrong with it.
pub(crate) type Compiled = Arc<Result<CompiledTemplate, RenderError>>;

/// What a part without a source of its own falls back to.
#[derive(Clone)]
pub(crate) struct Cached {
    /// As it was published, for requests that replace a part of it.
    pub(crate) source: Arc<TemplateSource>,
    /// Ready to render.
    pub(crate) compiled: Compiled,
}

impl Cached {
    fn new(source: TemplateSource) -> Self {
        let compiled = Arc::new(CompiledTemplate::new(source.clone()));
        Self { source: Arc::new(source), compiled }
    }

    fn size_bytes(&self) -> usize {
        let TemplateSource { subject, text, html } = &*self.source;
        let source = subject.len() + text.as_ref().map_or(0, String::len) + html.as_ref().map_or(0, String::len);
        source + self.compiled.as_ref().as_ref().map_or(0, CompiledTemplate::size_bytes)
    }
}

/// The templates that this instance has, the one that was used longest ago first to go.
pub struct TemplateCache {
    kept: Mutex<Kept>,
}

struct Kept {
    templates: LruCache<VersionKey, Cached>,
    bytes: usize,
}

impl Default for TemplateCache {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { templates: LruCache::unbounded(), bytes: 0 }) }
    }
}

impl TemplateCache {
    /// The named versions, those that are not there yet by one statement; what does not exist is left out.
    pub(crate) async fn load_across_tenants(
        &self,
        database: &Database,
        wanted: HashSet<VersionKey>,
    ) -> Result<HashMap<VersionKey, Cached>, StoreError> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing = Vec::new();
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for key in wanted {
                match kept.templates.get(&key) {
                    Some(cached) => drop(found.insert(key, cached.clone())),
                    None => missing.push(key),
                }
            }
        }
        for (key, source) in load_versions_across_tenants(database, &missing).await? {
            let cached = Cached::new(source);
            found.insert(key.clone(), cached.clone());
            self.keep(key, cached);
        }
        Ok(found)
    }

    fn keep(&self, key: VersionKey, cached: Cached) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += cached.size_bytes();
        if let Some((_, replaced)) = kept.templates.push(key, cached) {
            kept.bytes -= replaced.size_bytes();
        }
        while kept.bytes > MAX_BYTES {
            let Some((_, oldest)) = kept.templates.pop_lru() else { break };
            kept.bytes -= oldest.size_bytes();
        }
    }
}
