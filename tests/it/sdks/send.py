"""The vendors' own clients for Python, pointed at a simulator: each sends one message.

Prints one line of JSON per client: what it was told, or what it raised.
"""

import json
import sys

base = sys.argv[1]
host = base.removeprefix("http://")


def aliyun(phone):
    from alibabacloud_dysmsapi20170525 import models
    from alibabacloud_dysmsapi20170525.client import Client
    from alibabacloud_tea_openapi.models import Config

    config = Config(
        access_key_id="LTAI5tFakeKeyId00000001",
        access_key_secret="FakeSecretFakeSecretFakeSecret",
        endpoint=host,
        protocol="HTTP",
    )
    request = models.SendSmsRequest(
        phone_numbers=phone,
        sign_name="TestSign",
        template_code="SMS_71390007",
        template_param=json.dumps({"code": "482913"}),
        out_id="of-the-sdk",
    )
    body = Client(config).send_sms(request).body
    return {"code": body.code, "id": body.biz_id}


def tencent(phone):
    from tencentcloud.common import credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile
    from tencentcloud.sms.v20210111 import models, sms_client

    key = credential.Credential(
        "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
    )
    http = HttpProfile(protocol="http", endpoint=host)
    client = sms_client.SmsClient(key, "ap-guangzhou", ClientProfile(httpProfile=http))
    request = models.SendSmsRequest()
    request.PhoneNumberSet = ["+86" + phone]
    request.SmsSdkAppId = "1400006666"
    request.SignName = "TestSign"
    request.TemplateId = "449739"
    request.TemplateParamSet = ["482913", "5"]
    entry = client.SendSms(request).SendStatusSet[0]
    return {"code": entry.Code, "id": entry.SerialNo}


def twilio(phone):
    from twilio.rest import Client

    client = Client("AC00000000000000000000000000000001", "fake0auth0token00000000000000001")
    client.api.base_url = base
    message = client.messages.create(
        to="+86" + phone, from_="+15005550006", body="482913 is your verification code."
    )
    return {"code": message.status, "id": message.sid}


def twilio_verify(phone):
    from twilio.rest import Client

    client = Client("AC00000000000000000000000000000001", "fake0auth0token00000000000000001")
    client.verify.base_url = base
    service = client.verify.v2.services("VA00000000000000000000000000000001")
    service.verifications.create(to="+86" + phone, channel="sms", custom_code="482913")
    check = service.verification_checks.create(to="+86" + phone, code="482913")
    return {"code": check.status, "id": check.sid}


for number, client in enumerate([aliyun, tencent, twilio, twilio_verify]):
    try:
        told = client(f"1380013800{number}")
    except Exception as error:  # whatever a client raises is what this is to show
        told = {"raised": f"{type(error).__name__}: {error}"}
    print(json.dumps({"client": client.__name__, **told}), flush=True)
