//! The target: what may be known of a Secret without knowing a value.
//!
//! A Secret's name enters; whose it is, its type, and its keys with their lengths leave. Values are wiped as soon as they are counted, and so
//! are annotations, where kubectl keeps copies of them; what the HTTP and JSON layers had of them is freed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use robotosecret::{
    api::RobotoSecret,
    controller::drift::{Claim, MANAGER_PREFIX, Ownership, Seen, ownership},
    sensitive::Sensitive,
};

use super::access::{Connection, Sight};

/// A Secret without its values.
pub struct Kept {
    /// Its metadata, cut down.
    pub seen: Seen,
    /// Its type.
    pub type_: String,
    /// Its keys, each with its length in bytes.
    pub lengths: BTreeMap<String, usize>,
}

impl Kept {
    fn of(mut secret: Secret) -> Self {
        let seen = Seen::new(&secret.metadata);
        secret.metadata.annotations.take().into_iter().flatten().for_each(|(_, text)| drop(Sensitive::from(text)));
        let lengths = secret.data.take().into_iter().flatten().map(|(key, value)| (key, Sensitive::new(value.0).len())).collect();
        Self { seen, type_: secret.type_.take().unwrap_or_default(), lengths }
    }
}

/// The name of the Secret that a resource mirrors into.
pub fn target(resource: &RobotoSecret) -> String {
    resource.spec.target.name.clone().unwrap_or_else(|| resource.name_any())
}

/// The field manager of a resource.
pub fn manager(resource: &RobotoSecret) -> String {
    format!("{MANAGER_PREFIX}{}", resource.name_any())
}

/// Looks at a Secret, if the user may read it.
pub async fn look(connection: &Connection, name: &str) -> Sight<Option<Kept>> {
    let found = connection.api::<Secret>().get_opt(name).await;
    Sight::of(found.map(|found| found.map(Kept::of)), &format!("the Secret {name} can't be read"))
}

/// Whether the resource may write it, as the controller judges.
fn judged(resource: &RobotoSecret, seen: &Seen) -> Ownership {
    let (name, uid, manager) = (resource.name_any(), resource.uid().unwrap_or_default(), manager(resource));
    ownership(seen, &Claim { name: &name, uid: &uid, manager: &manager, policy: resource.spec.target.creation_policy, merged: false })
}

/// Why it is somebody else's, if it is.
pub fn foreign(resource: &RobotoSecret, seen: &Seen) -> Option<String> {
    match judged(resource, seen) {
        Ownership::Foreign(why) => Some(why),
        Ownership::Ours | Ownership::HandedOver => None,
    }
}

/// The keys of a Secret that are the resource's, with their lengths: all of one that is its alone, of a shared one those that it wrote, of another none.
pub fn own(resource: &RobotoSecret, kept: &Kept) -> BTreeMap<String, usize> {
    if foreign(resource, &kept.seen).is_some() {
        return BTreeMap::new();
    }
    let alone = kept.seen.belongs_to(&resource.name_any(), &resource.uid().unwrap_or_default());
    let owned = kept.seen.owned(&manager(resource)).keys;
    kept.lengths.iter().filter(|(key, _)| alone || owned.contains(key.as_str())).map(|(key, length)| (key.clone(), *length)).collect()
}

/// Whose it is, in words.
pub fn whose(resource: &RobotoSecret, seen: &Seen) -> String {
    match judged(resource, seen) {
        Ownership::Foreign(why) => why,
        Ownership::HandedOver => "handed over to this RobotoSecret".to_owned(),
        Ownership::Ours if seen.belongs_to(&resource.name_any(), &resource.uid().unwrap_or_default()) => "this RobotoSecret's alone".to_owned(),
        Ownership::Ours => "shared with others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_secret_names_and_lengths_are_kept() {
        let secret = json!({
            "metadata": {"name": "db", "uid": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "CANARY"}},
            "type": "Opaque", "data": {"a": "Q0FOQVJZ", "b": ""},
        });
        let kept = Kept::of(serde_json::from_value(secret).expect("a Secret"));
        assert_eq!((kept.type_.as_str(), &kept.lengths), ("Opaque", &BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 0)])));
        assert!(!format!("{:?}", kept.seen).contains("CANARY"));
    }
}
