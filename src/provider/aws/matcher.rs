//! Which answer belongs to which source of a shared call.
//!
//! What was asked for and what came back enter, in any order; what was said about each source leaves. Nothing is called here.
//! A source never gets what was said about another: an answer that fits two sources, or none, goes to nobody.

use std::mem;

use crate::api::reference::{Name, Source, Store, without_suffix};

/// Something that an answer says, and about whom.
pub(super) struct Entry<T> {
    /// The ARN that it says it is about.
    pub(super) arn: Option<String>,
    /// The name that it says it is about.
    pub(super) name: Option<String>,
    /// What it says.
    pub(super) said: T,
}

impl<T> Entry<T> {
    /// An entry about an id that may be an ARN or a name.
    pub(super) fn about(id: Option<String>, said: T) -> Self {
        let (arn, name) = if id.as_deref().is_some_and(|id| id.starts_with("arn:")) { (id, None) } else { (None, id) };
        Self { arn, name, said }
    }
}

/// What was said about one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard<T> {
    /// Nothing.
    Nothing,
    /// This, once or in the same words again.
    This(T),
    /// Two different things. Neither is to be believed.
    Conflict,
}

/// Gives each source what was said about it, in the order of the sources.
pub(super) fn assign<T: PartialEq>(asked: &[&Source], entries: impl IntoIterator<Item = Entry<T>>) -> Vec<Heard<T>> {
    let mut heard: Vec<Heard<T>> = asked.iter().map(|_| Heard::Nothing).collect();
    for entry in entries {
        if let Some(index) = addressee(asked, entry.arn.as_deref(), entry.name.as_deref()) {
            heard[index] = match mem::replace(&mut heard[index], Heard::Conflict) {
                Heard::Nothing => Heard::This(entry.said),
                Heard::This(before) if before == entry.said => Heard::This(before),
                Heard::This(_) | Heard::Conflict => Heard::Conflict,
            };
        }
    }
    heard
}

/// The only source that an entry is about: the one that was asked for by its very ARN, else the one that fits.
fn addressee(asked: &[&Source], arn: Option<&str>, name: Option<&str>) -> Option<usize> {
    let exact: Vec<usize> = (0..asked.len()).filter(|&i| arn == Some(asked[i].id().as_str())).collect();
    let found = if exact.is_empty() { (0..asked.len()).filter(|&i| fits(asked[i], arn, name)).collect() } else { exact };
    if let [index] = found[..] { Some(index) } else { None }
}

/// Whether a source may denote what an entry is about: everything that the entry says of itself has to agree.
fn fits(asked: &Source, arn: Option<&str>, name: Option<&str>) -> bool {
    let agrees = match asked.store {
        Store::SecretsManager => [arn.map(|arn| secret_has_arn(asked, arn)), name.map(|name| secret_has_name(asked, name))],
        Store::ParameterStore => [arn, name].map(|id| id.map(|id| parameter_has_id(asked, id))),
        _ => [None, None],
    };
    agrees.contains(&Some(true)) && !agrees.contains(&Some(false))
}

/// The ARN of an answer always ends in the six characters; one that was asked for may be partial in spite of its looks.
fn secret_has_arn(asked: &Source, arn: &str) -> bool {
    match &asked.name {
        Name::Plain(name) => arn.split_once(":secret:").and_then(|(_, resource)| without_suffix(resource)) == Some(name),
        Name::Arn(_) => without_suffix(arn) == Some(&asked.id()),
    }
}

fn secret_has_name(asked: &Source, name: &str) -> bool {
    match &asked.name {
        Name::Plain(plain) => plain == name,
        Name::Arn(arn) => arn.resource == name || without_suffix(&arn.resource) == Some(name),
    }
}

/// A parameter's id is its ARN or its name; what stands at the root has the same name with a slash and without.
fn parameter_has_id(asked: &Source, id: &str) -> bool {
    let rootless = |name: &str| name.strip_prefix('/').unwrap_or(name).to_owned();
    let plain = |id: &str| rootless(id.split_once(":parameter").map_or(id, |(_, name)| name));
    // Of two ARNs, account and region have to agree as well.
    if asked.arn().is_some() && id.starts_with("arn:") { asked.id() == id } else { plain(&asked.id()) == plain(id) }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::{
        Heard::{Nothing, This},
        *,
    };
    use crate::api::reference::Reference;

    const ACCOUNT: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret";

    fn source(uri: &str) -> Source {
        uri.parse::<Reference>().expect("a reference").source
    }

    fn heard(asked: &[&str], entries: &[(Option<&str>, Option<&str>, &'static str)]) -> Vec<Heard<&'static str>> {
        let sources: Vec<Source> = asked.iter().map(|uri| source(uri)).collect();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let entries = entries.iter().map(|&(arn, name, said)| Entry { arn: owned(arn), name: owned(name), said });
        assign(&sources.iter().collect::<Vec<_>>(), entries)
    }

    #[test]
    fn parameters_are_told_by_name_and_arn() {
        let arn = |name: &str| format!("arn:aws:ssm:eu-west-1:123456789012:parameter{name}");
        let (x, y, foreign) = (arn("/x"), arn("/p/y"), arn("/x").replace("123456789012", "210987654321"));
        let (x, y, foreign) = (x.as_str(), y.as_str(), foreign.as_str());
        // The root's slash may come and go; the name of an answer may be the ARN that was asked for.
        assert_eq!(heard(&["aws.ps://x", "aws.ps:///p/y"], &[(Some(y), Some("/p/y"), "y"), (Some(x), Some("/x"), "x")]), [This("x"), This("y")]);
        assert_eq!(heard(&["aws.ps:///x"], &[(Some(x), Some("x"), "x")]), [This("x")]);
        assert_eq!(heard(&[x, y], &[(Some(y), Some("/p/y"), "y"), (Some(x), Some(x), "x")]), [This("x"), This("y")]);
        // Name and ARN that speak of two things, another account's ARN, nothing at all.
        assert_eq!(heard(&["aws.ps:///x", "aws.ps:///p/y"], &[(Some(y), Some("/x"), "?")]), [Nothing, Nothing]);
        assert_eq!(heard(&[x], &[(Some(foreign), Some("/x"), "?")]), [Nothing]);
        assert_eq!(heard(&["aws.ps:///x"], &[(None, None, "?"), (Some("arn:aws:s3:::x"), None, "?")]), [Nothing]);
        // What is only named, as an unknown parameter is, in the words of the question.
        assert_eq!(heard(&["aws.ps:///x", y], &[(None, Some("/x"), "no"), (Some(y), None, "no")]), [This("no"), This("no")]);
    }

    #[test]
    fn an_answer_that_fits_two_questions_goes_to_nobody() {
        let arn = format!("{ACCOUNT}:a-AbCdEf");
        assert_eq!(heard(&["aws.sm://a", "aws.sm://a"], &[(Some(&arn), Some("a"), "?")]), [Heard::Nothing, Heard::Nothing]);
        assert_eq!(heard(&["aws.sm://a", &arn], &[(None, Some("a"), "?")]), [Heard::Nothing, Heard::Nothing]);
        // The very ARN goes before a name.
        assert_eq!(heard(&["aws.sm://a", &arn], &[(Some(&arn), Some("a"), "a")]), [Heard::Nothing, Heard::This("a")]);
    }

    #[test]
    fn a_secret_of_the_same_name_with_another_arn_is_another_secret() {
        let (asked, other) = (format!("{ACCOUNT}:a-AbCdEf"), format!("{ACCOUNT}:a-XyZ123"));
        assert_eq!(heard(&[&asked], &[(Some(&other), Some("a"), "?")]), [Heard::Nothing]);
        assert_eq!(heard(&["aws.sm://b"], &[(Some(&asked), Some("b"), "?")]), [Heard::Nothing]);
    }

    /// A secret as the store has it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Secret {
        name: &'static str,
        suffix: &'static str,
    }

    impl Secret {
        fn arn(&self) -> String {
            format!("{ACCOUNT}:{}-{}", self.name, self.suffix)
        }

        /// The store's own rule: a name, a full ARN, or an ARN without its suffix.
        fn is_meant_by(&self, asked: &str) -> bool {
            [self.name.to_owned(), self.arn(), format!("{ACCOUNT}:{}", self.name)].iter().any(|id| id == asked.trim_start_matches("aws.sm://"))
        }
    }

    /// Names that look like others with their suffix.
    fn secret() -> impl Strategy<Value = Secret> {
        let (names, suffixes) = (select(vec!["a", "a-AbCdEf", "a-AbCdEf-XyZ123", "b", "x/b"]), select(vec!["AbCdEf", "XyZ123"]));
        (names, suffixes).prop_map(|(name, suffix)| Secret { name, suffix })
    }

    fn question() -> impl Strategy<Value = String> {
        (secret(), 0..3).prop_map(|(secret, form)| match form {
            0 => format!("aws.sm://{}", secret.name),
            1 => secret.arn(),
            _ => format!("{ACCOUNT}:{}", secret.name),
        })
    }

    /// A few questions, and what came back: secrets in any order, asked for or not, some twice, in the same or other words.
    fn exchange() -> impl Strategy<Value = (Vec<String>, Vec<(Secret, u8, bool)>)> {
        (prop::collection::vec(question(), 1..6), prop::collection::vec((secret(), 0..2_u8, any::<bool>()), 0..8))
    }

    fn entries(said: &[(Secret, u8, bool)]) -> Vec<Entry<(Secret, u8)>> {
        let entry = |(secret, word, named): &(Secret, u8, bool)| Entry {
            arn: Some(secret.arn()),
            name: named.then(|| secret.name.to_owned()),
            said: (secret.clone(), *word),
        };
        said.iter().map(entry).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_source_gets_only_what_it_denotes_and_all_that_it_alone_denotes((asked, said) in exchange()) {
            let sources: Vec<Source> = asked.iter().map(|uri| source(uri)).collect();
            let heard = assign(&sources.iter().collect::<Vec<_>>(), entries(&said));
            prop_assert_eq!(heard.len(), asked.len());
            for (uri, heard) in asked.iter().zip(&heard) {
                if let Heard::This((secret, _)) = heard {
                    prop_assert!(secret.is_meant_by(uri), "{} got {:?}", uri, secret);
                }
                let fitting: Vec<_> = said.iter().filter(|(secret, ..)| secret.is_meant_by(uri)).collect();
                let alone = fitting.iter().all(|(secret, ..)| asked.iter().filter(|uri| secret.is_meant_by(uri)).count() == 1);
                match fitting[..] {
                    [] => prop_assert_eq!(heard, &Heard::Nothing, "{}", uri),
                    [(secret, word, _)] if alone => prop_assert_eq!(heard, &Heard::This((secret.clone(), *word)), "{}", uri),
                    [(secret, word, _), ref rest @ ..] if alone => {
                        let same = rest.iter().all(|(other, again, _)| (other, again) == (secret, word));
                        prop_assert_eq!(heard, &if same { Heard::This((secret.clone(), *word)) } else { Heard::Conflict }, "{}", uri);
                    }
                    _ => {}
                }
            }
        }

        #[test]
        fn the_order_of_the_answers_plays_no_part((asked, said) in exchange(), shuffled in any::<prop::sample::Index>()) {
            let sources: Vec<Source> = asked.iter().map(|uri| source(uri)).collect();
            let sources: Vec<&Source> = sources.iter().collect();
            let mut turned = said.clone();
            turned.rotate_left(if said.is_empty() { 0 } else { shuffled.index(said.len()) });
            turned.reverse();
            prop_assert_eq!(assign(&sources, entries(&said)), assign(&sources, entries(&turned)));
        }
    }
}
