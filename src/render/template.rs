//! temporary
use super::{Data, RenderError};
use crate::api::robotosecret::{MergePolicy, TemplateMetadata};
use std::collections::BTreeMap;
#[derive(Debug)]
pub struct Templates;
#[derive(Debug)]
pub struct TemplateSource {
    pub key: String,
    pub origin: String,
    pub text: String,
}
#[derive(Debug, Default)]
pub struct Rendered {
    pub data: Data,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}
#[derive(Debug)]
pub struct Provenance {
    pub name: String,
    pub namespace: String,
    pub target: String,
    pub sources: Vec<(String, String)>,
}
impl Templates {
    pub fn new(_: Vec<TemplateSource>, _: Option<&TemplateMetadata>, _: MergePolicy) -> Result<Self, RenderError> {
        Ok(Self)
    }
    pub fn render(&self, data: &Data, _: &Provenance) -> Result<Rendered, RenderError> {
        Ok(Rendered { data: data.clone(), ..Rendered::default() })
    }
}
