from tests.browser.conftest import *
def test_x(desk, page):
    for i in range(3): desk.case()
    c=desk.grave_case()
    desk.sign_in(page,"rita"); shot(page,"queue-en"); print(violations(page))
    page.goto(desk.url+f"/console/cases/{c}"); shot(page,"case-en"); print(violations(page))
    page.get_by_role("button",name="Take this case").click(); page.wait_for_load_state(); shot(page,"case-taken"); print(violations(page))
    page.set_viewport_size({"width":390,"height":800}); shot(page,"case-phone")
    print(page.title())
