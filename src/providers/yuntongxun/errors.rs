//! The vendor's result codes: what each means, what class it falls into, and for those that a
//! newcomer meets, what to do. The vendor's own page was not at hand: the list was put together
//! from public copies of it that agree, and the classes are our judgement.

use crate::domain::outcome::Class::{
    Accepted, AccountDisabled, AuthFailed, BadRequest, BalanceExhausted, BlockedNumber,
    ContentRejected, Duplicate, InvalidNumber, ProviderError, RateLimitedAccount,
    RateLimitedNumber, TemplateRejected, UnknownOutcome, UnsupportedDestination,
};
use crate::providers::codes::{self, Entry, one, range};

/// What a code means; `None` for one that is not on the list. Only the six-digit form is known.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    // Texts of one length sort like the numbers they name.
    if code.len() == 6 { codes::lookup(TABLE, code) } else { None }
}

/// Every known code, sorted. 172001 and 172003 are made up by the vendor's own clients for "no
/// answer"; they are listed because proxies built on those clients pass them on.
const TABLE: &[Entry] = &[
    one("000000", Accepted, "成功"),
    one("111000", ProviderError, "未知错误"),
    range("111001", "111099", ProviderError, "内部错误"),
    one("111100", AuthFailed, "请求URL账号格式不正确"),
    one("111101", AuthFailed, "包头Authorization参数为空"),
    one("111102", AuthFailed, "Authorization Base64解码失败"),
    one("111103", AuthFailed, "Authorization解码后格式有误"),
    one("111104", AuthFailed, "Authorization解码后账户ID为空"),
    one("111105", AuthFailed, "Authorization解码后时间戳为空"),
    one("111106", AuthFailed, "Authorization解码后时间戳过期")
        .hint("set this server's clock (NTP): a signature is good for 24 hours of Shanghai time"),
    one("111107", AuthFailed, "Authorization中账户ID与请求地址中的不一致"),
    one("111108", AuthFailed, "请求地址Sig参数为空"),
    one("111109", AuthFailed, "请求地址Sig校验失败")
        .hint("copy account_sid and auth_token again: those of the main account, without spaces"),
    one("111110", AuthFailed, "SoftVersion参数有误"),
    one("111111", RateLimitedAccount, "超过规定的并发数"),
    one("111113", AuthFailed, "Authorization时间戳格式有误 yyyyMMddHHmmss"),
    one("111128", AuthFailed, "主账户ID为空"),
    one("111129", AuthFailed, "主账户ID存在非法字符"),
    one("111130", AuthFailed, "主账户ID长度有误"),
    one("111131", AuthFailed, "主账户授权令牌为空"),
    one("111132", AuthFailed, "主账户授权令牌存在非法字符"),
    one("111133", AuthFailed, "主账户授权令牌长度有误"),
    one("111138", AccountDisabled, "主账户未激活"),
    one("111139", AccountDisabled, "主账户已暂停"),
    one("111140", AccountDisabled, "主账户已关闭"),
    one("111141", AuthFailed, "主账户不存在"),
    one("111142", BalanceExhausted, "主账户余额不足").hint("top up the account in the console"),
    one("111143", AuthFailed, "主账号授权令牌无效"),
    one("111169", AuthFailed, "应用ID为空"),
    one("111170", AuthFailed, "应用ID存在非法字符"),
    one("111171", AuthFailed, "应用ID长度有误"),
    one("111176", AccountDisabled, "应用被删除"),
    one("111177", AccountDisabled, "应用被禁用"),
    one("111178", AccountDisabled, "应用未发布"),
    one("111179", AccountDisabled, "应用在审核中"),
    one("111180", AccountDisabled, "应用被暂停"),
    one("111181", AuthFailed, "应用不存在")
        .hint("copy app_id again from the console: no such application"),
    one("111182", AuthFailed, "应用不属于主账户"),
    one("111318", BadRequest, "语音验证码为空"),
    one("111319", BadRequest, "语音验证码长度有误"),
    one("112300", BadRequest, "接收短信的手机号码为空"),
    one("112301", BadRequest, "短信正文为空"),
    one("112302", AccountDisabled, "群发短信已暂停"),
    one("112303", AccountDisabled, "应用未开通短信功能"),
    one("112304", BadRequest, "短信内容的编码转换有误"),
    one("112305", AccountDisabled, "应用未上线，短信接收号码外呼受限"),
    one("112306", BadRequest, "接收模板短信的手机号码为空"),
    one("112307", BadRequest, "模板短信模板ID为空"),
    one("112308", BadRequest, "模板data参数为空"),
    one("112309", BadRequest, "模板短信内容的编码转换有误"),
    one("112310", AccountDisabled, "应用未上线，模板短信接收号码外呼受限")
        .hint("launch the application (上线) in the console, or register this as a test number"),
    one("112311", TemplateRejected, "短信模板不存在"),
    one("112312", BadRequest, "应用未配置此短信扩展码"),
    one("112313", TemplateRejected, "未查到符合条件的短信模板"),
    one("112314", RateLimitedNumber, "短信下发超过当日发送限制"),
    one("112315", BadRequest, "模板ID长度超长"),
    one("112316", InvalidNumber, "多个号码格式错误"),
    one("112317", BlockedNumber, "号码在黑名单中"),
    one("112318", BadRequest, "模板ID要求为数字"),
    one("112319", InvalidNumber, "手机号码超长"),
    one("112323", TemplateRejected, "模板不存在或审核未通过"),
    one("112326", ProviderError, "发送短信失败"),
    one("112329", BadRequest, "状态报告count参数不正确"),
    one("112330", BadRequest, "状态报告count超过最大限制"),
    one("112353", AuthFailed, "应用不属于该主账号"),
    one("112354", RateLimitedAccount, "查询超过并发次数"),
    one("113302", AccountDisabled, "测试模板且接收者不是注册的测试号码")
        .hint("register this as a test number in the console, or use a template of your own"),
    one("160000", ProviderError, "系统错误"),
    range("160001", "160010", ProviderError, "短信通道繁忙"),
    one("160011", ContentRejected, "存在屏蔽词"),
    one("160012", AuthFailed, "短信通道认证出错"),
    one("160013", InvalidNumber, "号码格式不对或不支持"),
    one("160014", BalanceExhausted, "短信通道余额不足"),
    one("160015", RateLimitedNumber, "限制对单号码的发送次数"),
    one("160016", RateLimitedAccount, "通道限制发送速度"),
    one("160017", BadRequest, "单次提交号码过多"),
    one("160018", ContentRejected, "通道返回有屏蔽词"),
    one("160019", TemplateRejected, "签名无效"),
    one("160020", ContentRejected, "短信内容过长"),
    one("160021", RateLimitedNumber, "相同内容发给同一手机一天只能一次"),
    one("160022", RateLimitedNumber, "同一手机一天超过限制次数"),
    one("160030", BadRequest, "请求包体为空"),
    one("160031", BadRequest, "参数解析失败"),
    one("160032", TemplateRejected, "短信模板无效")
        .hint("check template_id in the console: it must exist and be approved"),
    one("160033", ContentRejected, "短信存在黑词"),
    one("160034", BlockedNumber, "号码黑名单"),
    one("160035", BadRequest, "短信下发内容为空"),
    one("160036", TemplateRejected, "模板类型未知")
        .hint("check in the console that template_id is an approved verification template"),
    one("160037", ContentRejected, "短信内容长度限制"),
    one("160038", RateLimitedNumber, "验证码发送过频繁")
        .hint("wait: this number was sent a code moments ago; the console sets the gap"),
    one("160039", RateLimitedNumber, "超出同模板同号天发送次数上限").hint(
        "wait until tomorrow (Shanghai): this template's day limit for the number is reached",
    ),
    one("160040", RateLimitedNumber, "验证码超出同模板同号码天发送上限")
        .hint("wait until tomorrow (Shanghai), or raise the template's day limit in the console"),
    one("160041", RateLimitedNumber, "通知超出同模板同号码天发送上限"),
    one("160042", InvalidNumber, "号码格式有误")
        .hint("check the number: only mainland mobile numbers are taken"),
    one("160043", TemplateRejected, "应用与模板id不匹配")
        .hint("app_id and template_id must belong together: the template is another application's"),
    one("160044", BadRequest, "发送号码为空"),
    one("160045", BadRequest, "群发号码重复"),
    one("160046", ContentRejected, "营销短信内容审核未通过"),
    one("160048", BadRequest, "号码数超200限制"),
    one("160049", ContentRejected, "短信内容含敏感词"),
    one("160050", ProviderError, "短信发送失败"),
    one("160051", BlockedNumber, "营销退订号码"),
    one("160052", TemplateRejected, "模板变量格式有误"),
    one("160053", AuthFailed, "IP鉴权失败")
        .hint("add this server's public address to the account's allow-list in the console"),
    one("160054", Duplicate, "请求重复"),
    one("160055", BadRequest, "reqId超长"),
    one("160056", RateLimitedNumber, "同号码请求内容重复"),
    one("160057", BadRequest, "模板ID要求为数字"),
    one("160058", UnsupportedDestination, "账户无国际短信权限"),
    one("160059", UnsupportedDestination, "国际短信暂不支持群发"),
    one("160060", UnsupportedDestination, "国际账户无营销权限"),
    one("160061", UnsupportedDestination, "暂不支持的国家码号"),
    one("160062", UnsupportedDestination, "未开通此国家码号"),
    one("160063", ProviderError, "短信发送失败"),
    one("160064", ProviderError, "短信发送失败"),
    one("160065", BadRequest, "子扩展不符合要求"),
    one("160068", BlockedNumber, "平台全部退订号码黑名单"),
    one("160069", TemplateRejected, "测试模板变量非数字")
        .hint("check that template_id has two variables, code and minutes, both taking digits"),
    one("160070", TemplateRejected, "自定义模板不支持国际短信"),
    one("160071", ContentRejected, "营销短信不在允许发送时间段"),
    one("160072", BlockedNumber, "关键号码黑名单"),
    one("160073", BlockedNumber, "运营商投诉号码黑名单"),
    one("160074", BlockedNumber, "高危投诉号码黑名单"),
    one("172001", UnknownOutcome, "网络错误"),
    one("172003", UnknownOutcome, "返回包体错误"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::domain::outcome::Class;

    #[derive(Deserialize)]
    struct Known {
        class: Class,
        message: String,
    }

    fn known() -> BTreeMap<String, Known> {
        let text = include_str!("../../../tests/vectors/error_map_yuntongxun.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_no_two_entries_overlap() {
        for entry in TABLE {
            let six =
                |code: &str| code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
            assert!(six(entry.first) && six(entry.last) && entry.first <= entry.last, "{entry:?}");
        }
        for pair in TABLE.windows(2) {
            assert!(pair[0].last < pair[1].first, "{pair:?}");
        }
    }

    #[test]
    fn the_table_is_the_map_entry_for_entry() {
        let known = known();
        assert_eq!((known.len(), TABLE.len()), (125, 125));
        for (codes, expected) in &known {
            let (first, last) = codes.split_once('-').unwrap_or((codes, codes));
            for code in [first, last] {
                let entry = lookup(code).unwrap();
                assert_eq!((entry.first, entry.last), (first, last), "{codes}");
                assert_eq!(entry.class, expected.class, "{codes}");
                assert_eq!(entry.meaning, expected.message, "{codes}");
            }
        }
    }

    #[test]
    fn ranges_hold_what_lies_in_them_and_nothing_else() {
        let meaning = |code| lookup(code).map(|entry| entry.meaning);
        assert_eq!(meaning("111000"), Some("未知错误"));
        assert_eq!(meaning("111050"), Some("内部错误"));
        assert_eq!(meaning("111100"), Some("请求URL账号格式不正确"));
        assert_eq!(meaning("160005"), Some("短信通道繁忙"));
        let unknown =
            ["", "0", "000001", "111112", "160023", "172002", "999999", "1600380", "16003"];
        for code in unknown.into_iter().chain(["16003a", "16003８", "-60038", "！"]) {
            assert_eq!(lookup(code), None, "{code}");
        }
    }

    #[test]
    fn the_codes_a_newcomer_meets_say_what_to_do() {
        let met = [
            "112310", "113302", "160069", "160038", "160040", "160042", "160032", "111109",
            "111106", "111142", "160053", "111181", "160036", "160043", "160039",
        ];
        for code in met {
            assert!(lookup(code).unwrap().hint.is_some_and(|hint| hint.len() > 20), "{code}");
        }
        assert_eq!(TABLE.iter().filter(|entry| entry.hint.is_some()).count(), met.len());
    }
}
