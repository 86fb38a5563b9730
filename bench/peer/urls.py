from django.urls import path

import views

urlpatterns = [
    path("image_codes/<uuid:image_code_id>/", views.image_code),
    path("sms_codes/<str:mobile>/", views.sms_code),
    path("sms_login/", views.sms_login),
]
