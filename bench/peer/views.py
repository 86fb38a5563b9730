"""The origin's flow, written again from its description: image, message, login.

It keeps the origin's faults (get then delete, get then setex, random.randint, codes in clear), because what they
cost, or save, is part of what is being compared.
"""

import json
import random
import string

from captcha.image import ImageCaptcha
from django.core import signing
from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from django_redis import get_redis_connection

IMAGE_SECONDS = 300
CODE_SECONDS = 300
GAP_SECONDS = 60
QUEUE = "sms_queue"
ALPHABET = string.ascii_uppercase + string.digits

painter = ImageCaptcha()


def answer(code, errmsg, **more):
    return JsonResponse({"code": code, "errmsg": errmsg, **more}, json_dumps_params={"ensure_ascii": False})


@require_GET
def image_code(request, image_code_id):
    text = "".join(random.choices(ALPHABET, k=4))
    image = painter.generate(text)
    get_redis_connection("default").setex(f"img_{image_code_id}", IMAGE_SECONDS, text)
    return HttpResponse(image.getvalue(), content_type="image/png")


@require_GET
def sms_code(request, mobile):
    image_code_id = request.GET.get("image_code_id")
    image_text = request.GET.get("image_code")
    if not image_code_id or not image_text:
        return answer("5006", "参数不完整")

    redis = get_redis_connection("default")
    if redis.get(f"send_flag_{mobile}"):
        return answer("4008", "发送短信太频繁,请稍候再发")
    expected = redis.get(f"img_{image_code_id}")
    if expected is None:
        return answer("4001", "图形验证码已过期,点击图片换一个")
    redis.delete(f"img_{image_code_id}")
    if expected.decode().lower() != image_text.lower():
        return answer("4001", "图形验证码错误")

    code = "%06d" % random.randint(0, 999999)
    pipeline = redis.pipeline()
    pipeline.setex(f"sms_{mobile}", CODE_SECONDS, code)
    pipeline.setex(f"send_flag_{mobile}", GAP_SECONDS, 1)
    pipeline.execute()
    # Stands for celery's `delay`: one push of a small JSON message; a worker, another process, would call the provider.
    redis.rpush(QUEUE, json.dumps({"to": mobile, "datas": [code, CODE_SECONDS // 60], "template": 1}))
    return answer("0", "OK")


@csrf_exempt
@require_POST
def sms_login(request):
    mobile = request.POST.get("mobile")
    code = request.POST.get("sms_code")
    if not mobile or not code:
        return answer("5006", "参数不完整")

    redis = get_redis_connection("default")
    expected = redis.get(f"sms_{mobile}")
    if expected is None:
        return answer("4008", "短信验证码已过期")
    if expected.decode() != code:
        return answer("4008", "短信验证码错误")
    redis.delete(f"sms_{mobile}")
    return answer("0", "OK", token=signing.dumps({"mobile": mobile}, salt="sms_login"))
