//! Codes of languages: what `nl`, `nl-BE`, `nld`, `nld_Latn` and `__nl__` have in common.
//!
//! Two codes are one language where they may be: dialects, scripts and the members of a macrolanguage are not told
//! apart, so that what is said of two codes that differ is certain.

/// ISO 639-1 codes, each with the codes of ISO 639-2 and 639-3 that are written for it, and for its members.
const CODES: &str = "aa:aar ab:abk af:afr ak:aka,twi,fat am:amh an:arg ar:ara,arb as:asm av:ava ay:aym,ayr,ayc \
az:aze,azj,azb ba:bak be:bel bg:bul bi:bis bm:bam bn:ben bo:bod,tib br:bre bs:bos,hbs ca:cat ce:che ch:cha co:cos \
cs:ces,cze cv:chv cy:cym,wel da:dan de:deu,ger dv:div dz:dzo ee:ewe el:ell,gre en:eng eo:epo es:spa et:est,ekk \
eu:eus,baq fa:fas,per,pes,prs ff:ful,fuv,fuc fi:fin fj:fij fo:fao fr:fra,fre fy:fry ga:gle gd:gla gl:glg \
gn:grn,gug gu:guj ha:hau he:heb hi:hin hr:hrv,hbs ht:hat hu:hun hy:hye,arm ia:ina id:ind,msa,may ig:ibo io:ido \
is:isl,ice it:ita iu:iku ja:jpn jv:jav ka:kat,geo kg:kon,kng ki:kik kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau,knc \
ks:kas ku:kur,kmr,ckb ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lv:lav,lvs mg:mlg,plt mi:mri,mao \
mk:mkd,mac ml:mal mn:mon,khk mr:mar ms:msa,may,zsm mt:mlt my:mya,bur nb:nob,nor ne:nep,npi nl:nld,dut nn:nno,nor \
no:nor,nob,nno ny:nya oc:oci om:orm,gaz or:ori,ory os:oss pa:pan,pnb pl:pol ps:pus,pbt pt:por qu:que,quy,quz rm:roh \
rn:run ro:ron,rum ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs,srp,hrv,bos si:sin sk:slk,slo sl:slv \
sm:smo sn:sna so:som sq:sqi,alb,als sr:srp,hbs ss:ssw st:sot su:sun sv:swe sw:swa,swh ta:tam te:tel tg:tgk th:tha \
ti:tir tk:tuk tl:tgl,fil tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi,aka ty:tah ug:uig uk:ukr ur:urd uz:uzb,uzn \
ve:ven vi:vie wa:wln wo:wol xh:xho yi:yid,ydd yo:yor zh:zho,chi,cmn,yue zu:zul";

/// A language: every code that may be written for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language(Vec<&'static str>);

impl Language {
    /// Reads a code; nothing when it is none of those that are known, such as that of a group of languages.
    pub fn read(code: &str) -> Option<Self> {
        let code = code.trim_matches('_').to_lowercase();
        let code = code.split(['-', '_']).next().unwrap_or_default();
        let entries = CODES.split(' ').filter_map(|entry| entry.split_once(':'));
        let meant =
            entries.filter(|(short, long)| *short == code || long.split(',').any(|long| long == code));
        let codes: Vec<&str> = meant.flat_map(|(_, long)| long.split(',')).collect();
        (!codes.is_empty()).then_some(Self(codes))
    }

    /// Whether two codes may mean one language.
    pub fn may_be(&self, other: &Self) -> bool {
        self.0.iter().any(|code| other.0.contains(code))
    }
}

/// Returns the languages that a tokenizer has tokens for, in the forms in which models mark a language:
/// `__nl__`, `nld_Latn`, `nl_XX`.
pub fn of_tokens<'t>(tokens: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    tokens.filter(|token| marks_language(token)).collect()
}

fn marks_language(token: &str) -> bool {
    let is_lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    if let Some(code) = token.strip_prefix("__").and_then(|rest| rest.strip_suffix("__")) {
        return matches!(code.len(), 2 | 3) && is_lower(code);
    }
    let Some((code, place)) = token.split_once('_').filter(|_| token.is_ascii()) else { return false };
    match (code.len(), place.len()) {
        (3, 4) => is_lower(code) && is_upper(&place[..1]) && is_lower(&place[1..]),
        (2, 2) => is_lower(code) && is_upper(place),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, other: &str, expected: Option<bool>) {
        let found = Language::read(one).zip(Language::read(other)).map(|(one, other)| one.may_be(&other));
        assert_eq!(found, expected, "{one} and {other}");
    }

    #[test]
    fn codes_of_one_language_are_one() {
        check("nl", "nl-BE", Some(true));
        check("nl", "nld_Latn", Some(true));
        check("NL", "__nl__", Some(true));
        check("nl", "nl_XX", Some(true));
        check("zh", "cmn", Some(true));
        check("no", "nob_Latn", Some(true));
        check("nl", "de", Some(false));
        check("nld", "deu_Latn", Some(false));
        check("nl", "mul", None);
        check("nl", "klingon", None);
        check("", "nl", None);
    }

    #[test]
    fn tokens_of_languages_are_told_from_others() {
        let tokens =
            ["__nl__", "nld_Latn", "nl_XX", "<s>", "__sep__", "a_b", "_____", "é_é", "nl_xx", "abc_DEFG"];
        assert_eq!(of_tokens(tokens.into_iter()), ["__nl__", "nld_Latn", "nl_XX", "__sep__"]);
        assert!(Language::read("__sep__").is_none());
    }
}
