// The REST interface, call by call.
#include <gmock/gmock.h>

#include "jupyter/json_text.h"
#include "tests/support/gateway_harness.h"

namespace nbos::gateway {
namespace {

using ::testing::ElementsAre;
using testing::GatewayHarness;
using ::testing::HasSubstr;
using testing::milliseconds;
using ::testing::Not;

class Rest : public GatewayHarness {
protected:
    std::vector<std::string> starts() {
        std::vector<std::string> hosts;
        for (const auto& [host, start] : link_.take<cluster::StartReplica>()) {
            hosts.push_back(host);
        }
        return hosts;
    }
};

TEST_F(Rest, OnlyTheVersionIsOpen) {
    EXPECT_EQ(200, rest("GET", "/api", "", "").status);
    for (const std::string wrong : {"", "token ", "token secre", "token secretx", "token Secret",
                                    "secret", "Basic secret", "None secret"}) {
        const auto answer = rest("GET", "/api/kernels", "", wrong);
        EXPECT_EQ(401, answer.status) << wrong;
        EXPECT_EQ("Unauthorized", jupyter::string_field(answer.body, "reason"));
    }
    all_up();
    for (const std::string right : {"token secret", "Bearer secret", "Token secret"}) {
        EXPECT_EQ(200, rest("GET", "/api/kernels", "", right).status) << right;
    }
    EXPECT_EQ(200, rest("GET", "/api/kernels?token=secret", "", "").status);
    EXPECT_EQ(200, rest("GET", "/t/secret/api/kernels", "", "").status);
    EXPECT_EQ(401, rest("GET", "/t/secreT/api/kernels", "", "").status);
    EXPECT_EQ(401, rest("GET", "/t//api/kernels", "", "").status);
}

TEST_F(Rest, OptionsNeedNoTokenAndNameTheMethods) {
    const auto answer = rest("OPTIONS", "/api/kernels", "", "");
    EXPECT_EQ(204, answer.status);
    EXPECT_FALSE(answer.headers.empty());
}

TEST_F(Rest, UnknownAddressesAreJson404) {
    for (const std::string target : {"/", "/api/contents", "/api/kernels/nonsense", "/api/nbos/x",
                                     "/kernelspecs/python3/nothing.png", "/%zz"}) {
        all_up();
        const auto answer = rest("GET", target);
        EXPECT_EQ(404, answer.status) << target;
        EXPECT_EQ("Not Found", jupyter::string_field(answer.body, "reason")) << target;
        EXPECT_NE("", jupyter::string_field(answer.body, "message")) << target;
    }
}

TEST_F(Rest, KernelspecsHaveWhatClientsInsistOn) {
    const auto all = rest("GET", "/api/kernelspecs").body;
    EXPECT_EQ("python3", jupyter::string_field(all, "default"));
    for (const auto* part : {"\"argv\":[", "\"language\":\"python\"", "Python 3 (NotebookOS)",
                             "/kernelspecs/python3/logo-svg.svg"}) {
        EXPECT_THAT(all, HasSubstr(part));
    }
    EXPECT_EQ(200, rest("GET", "/api/kernelspecs/python3").status);
    EXPECT_EQ(200, rest("GET", "/api/kernelspecs?user=bob/python3").status);
    EXPECT_EQ(404, rest("GET", "/api/kernelspecs/r").status);
    const auto logo = rest("GET", "/kernelspecs/python3/logo-svg.svg");
    EXPECT_EQ("image/svg+xml", logo.content_type);
    EXPECT_THAT(logo.body, HasSubstr("<svg"));
}

TEST_F(Rest, CreatingAKernelStartsThreeReplicasAndAnswersAtOnce) {
    all_up();
    const auto answer =
        rest("POST", "/api/kernels", R"({"name": "python3", "env": {"KERNEL_X": "1"}})");
    EXPECT_EQ(201, answer.status);
    EXPECT_EQ("starting", jupyter::string_field(answer.body, "execution_state"));
    const auto activity = jupyter::string_field(answer.body, "last_activity");
    EXPECT_EQ(27U, activity.size()) << activity;  // 2023-11-14T22:30:00.300000Z
    EXPECT_EQ('Z', activity.back());
    EXPECT_EQ('.', activity[19]);
    EXPECT_THAT(answer.body, HasSubstr("\"connections\": 0"));
    EXPECT_EQ("Location", answer.headers.at(0).first);
    const auto started = link_.take<cluster::StartReplica>();
    ASSERT_EQ(3U, started.size());
    EXPECT_EQ(started[0].second.bootstrap, started[2].second.bootstrap);
    EXPECT_EQ("1", started[0].second.options.env.at("KERNEL_X"));
    EXPECT_EQ("/ws", started[0].second.options.cwd);
}

TEST_F(Rest, KernelsSpreadOverTheLeastSubscribedHosts) {
    all_up();
    create();
    EXPECT_THAT(starts(), ElementsAre("h1", "h2", "h3"));
    create();
    EXPECT_THAT(starts(), ElementsAre("h4", "h1", "h2"));
}

TEST_F(Rest, AChosenIdMakesCreationRepeatable) {
    all_up();
    const std::string body =
        R"({"name": "python3", "env": {"KERNEL_ID": "11111111-2222-4333-8444-555555555555"}})";
    EXPECT_EQ("11111111-2222-4333-8444-555555555555", create(body));
    EXPECT_EQ(3U, starts().size());
    EXPECT_EQ("11111111-2222-4333-8444-555555555555", create(body));
    EXPECT_EQ(0U, starts().size());
}

TEST_F(Rest, TheClustersOwnIdIsNoKernels) {
    all_up();
    const auto answer =
        rest("POST", "/api/kernels", R"({"kernel_id": "00000000-0000-0000-0000-000000000001"})");
    EXPECT_EQ(400, answer.status);
    EXPECT_THAT(answer.body, HasSubstr("the cluster's own"));
    EXPECT_EQ(0U, starts().size());
}

TEST_F(Rest, BadBodiesAreAnswered400) {
    all_up();
    for (const std::string body :
         {"{", "[]", "17", R"({"env": {"A": 1}})", R"({"env": []})", R"({"kernel_id": "x"})",
          R"({"env": {"KERNEL_REPLICAS": "2"}})", R"({"env": {"": "x"}})",
          R"({"env": {"A=B": "x"}})", R"({"env": {"A\u0000": "x"}})",
          R"({"env": {"A": "x\u0000"}})"}) {
        const auto answer = rest("POST", "/api/kernels", body);
        EXPECT_EQ(400, answer.status) << body;
        EXPECT_NE("", jupyter::string_field(answer.body, "message")) << body;
    }
    EXPECT_EQ(0U, starts().size());
    EXPECT_EQ(404, rest("POST", "/api/kernels", R"({"name": "fortran"})").status);
}

TEST_F(Rest, OnlyWhoHasTheTokenSendsABody) {
    jupyter::HttpRequest request{
        .method = "POST", .target = "/api/kernels", .headers = {}, .body = {}};
    EXPECT_FALSE(gateway_->wants_body(request));
    request.headers = {{"authorization", "token wrong"}};
    EXPECT_FALSE(gateway_->wants_body(request));
    request.headers = {{"authorization", "token secret"}};
    EXPECT_TRUE(gateway_->wants_body(request));
    request.target = "/%";
    EXPECT_FALSE(gateway_->wants_body(request));
}

TEST_F(Rest, TooFewHostsIs503WithHowMany) {
    link_.system = testing::FakeSystemGroup("h1");
    up("h1");
    up("h2");
    advance(milliseconds(6'000));
    const auto answer = rest("POST", "/api/kernels", "{}");
    EXPECT_EQ(503, answer.status);
    EXPECT_THAT(jupyter::string_field(answer.body, "message"), HasSubstr("2 of 4 can take one"));
    EXPECT_EQ("[]", rest("GET", "/api/kernels").body);
    EXPECT_EQ(201, rest("POST", "/api/kernels", R"({"env": {"KERNEL_REPLICAS": "1"}})").status);
}

TEST_F(Rest, AHiccupOfAConnectionDoesNotRefuseAKernel) {
    link_.system = testing::FakeSystemGroup("h1");
    all_up();
    lose("h3", HostState::kDown);
    lose("h4", HostState::kDown);
    create();
    EXPECT_THAT(starts(), ElementsAre("h1", "h2"));
    up("h3");
    gateway_->tick();
    EXPECT_THAT(starts(), ElementsAre("h3"));
    lose("h3", HostState::kRefused);
    EXPECT_EQ(201, rest("POST", "/api/kernels", "{}").status);
    advance(milliseconds(4'000));
    EXPECT_EQ(503, rest("POST", "/api/kernels", "{}").status);
}

TEST_F(Rest, DeletingStopsEveryReplicaAlsoWhenItsHostComesBackLater) {
    all_up();
    auto group = running_kernel();
    lose("h3");
    auto client = connect(group.kernel, "s1");
    EXPECT_EQ(204, rest("DELETE", "/api/kernels/" + group.kernel).status);
    EXPECT_EQ(404, rest("GET", "/api/kernels/" + group.kernel).status);
    EXPECT_EQ(1000, client.socket->closed);
    const auto stops = link_.take<cluster::StopReplica>();
    ASSERT_EQ(2U, stops.size());
    restart_gateway();
    all_up();
    report(group);
    EXPECT_EQ(3U, link_.take<cluster::StopReplica>().size());
    EXPECT_EQ("[]", rest("GET", "/api/kernels").body);
}

TEST_F(Rest, InterruptAndRestartAnswerWhenTheClusterHas) {
    all_up();
    auto group = running_kernel();
    EXPECT_EQ(204, rest("POST", "/api/kernels/" + group.kernel + "/interrupt").status);  // idle
    EXPECT_TRUE(link_.take<cluster::Interrupt>().empty());
    group.queued = 1;
    report(group);
    EXPECT_EQ(0, rest("POST", "/api/kernels/" + group.kernel + "/interrupt").status);
    const auto asked = rest_later("POST", "/api/kernels/" + group.kernel + "/interrupt");
    for (const auto& [host, interrupt] : link_.take<cluster::Interrupt>()) {
        tell(host, cluster::Reply{.request = interrupt.request});
    }
    EXPECT_EQ(204, asked->status);
    group.queued = 0;
    report(group);
    const auto restart = rest_later("POST", "/api/kernels/" + group.kernel + "/restart");
    EXPECT_EQ("restarting", jupyter::string_field(rest("GET", "/api/kernels/" + group.kernel).body,
                                                  "execution_state"));
    advance(milliseconds(39'000));
    EXPECT_EQ(503, restart->status);  // nobody answered
    EXPECT_EQ("idle", jupyter::string_field(rest("GET", "/api/kernels/" + group.kernel).body,
                                            "execution_state"));
}

TEST_F(Rest, SessionsAreKeptAcrossARestartOfTheGateway) {
    all_up();
    const auto answer = rest("POST", "/api/sessions",
                             R"({"path": "sub/a.ipynb", "type": "notebook", "name": "a.ipynb",)"
                             R"( "kernel": {"name": "python3"}})");
    EXPECT_EQ(201, answer.status) << answer.body;
    const auto started = link_.take<cluster::StartReplica>();
    ASSERT_EQ(3U, started.size());
    EXPECT_EQ("/ws/sub", started[0].second.options.cwd);
    const auto id = jupyter::string_field(answer.body, "id");
    const Group group{.kernel = started[0].second.kernel.value.str()};
    EXPECT_THAT(answer.body, HasSubstr(group.kernel));
    EXPECT_THAT(answer.body, HasSubstr("\"notebook\": {\"path\": \"sub/a.ipynb\""));
    EXPECT_EQ(id, jupyter::string_field(
                      rest("POST", "/api/sessions",
                           R"({"path": "sub/a.ipynb", "type": "notebook", "kernel": {}})")
                          .body,
                      "id"));
    EXPECT_EQ(0U, starts().size());
    restart_gateway();
    EXPECT_EQ(503, rest("GET", "/api/sessions").status);
    all_up();
    report(group);
    EXPECT_THAT(rest("GET", "/api/sessions").body, HasSubstr(id));
    const auto renamed = rest("PATCH", "/api/sessions/" + id, R"({"path": "b.ipynb"})");
    EXPECT_EQ("b.ipynb", jupyter::string_field(renamed.body, "path"));
    for (const auto* wrong : {R"({"path": 5})", R"({"kernel": "python3"})",
                              R"({"kernel": {"id": 5}})", R"({"name": ["a"]})", "[]"}) {
        EXPECT_EQ(400, rest("PATCH", "/api/sessions/" + id, wrong).status) << wrong;
    }
    EXPECT_EQ(200, rest("PATCH", "/api/sessions/" + id, R"({"kernel": {"id": null}})").status);
    EXPECT_EQ(204, rest("DELETE", "/api/sessions/" + id).status);
    EXPECT_EQ("[]", rest("GET", "/api/sessions").body);
    EXPECT_EQ(404, rest("GET", "/api/kernels/" + group.kernel).status);
}

TEST_F(Rest, BadSessionsAreRefused) {
    all_up();
    EXPECT_EQ(400, rest("POST", "/api/sessions", R"({"type": "notebook"})").status);
    EXPECT_EQ(501, rest("POST", "/api/sessions",
                        R"({"path": "a", "type": "notebook", "kernel": {"name": "r"}})")
                       .status);
    EXPECT_EQ(404, rest("POST", "/api/sessions",
                        R"({"path": "a", "type": "notebook", "kernel": {"id": "nope"}})")
                       .status);
    EXPECT_EQ(404, rest("DELETE", "/api/sessions/nope").status);
}

TEST_F(Rest, AKernelWhoseHostsAreAllAwayIsNotForgotten) {
    all_up();
    auto group = running_kernel();
    advance(milliseconds(1'000));
    restart_gateway();
    up("h4");  // it has the tables, and no part in the kernel
    advance(milliseconds(6'000));
    auto client = connect(group.kernel, "s1");
    client.execute("m1");
    advance(milliseconds(4'000));
    EXPECT_THAT(client.take(), ElementsAre(HasSubstr("none of its hosts is connected")));
    const auto model = rest("GET", "/api/kernels/" + group.kernel);
    EXPECT_EQ(200, model.status);
    EXPECT_EQ("none of its hosts is connected", jupyter::string_field(model.body, "reason"));
    all_up();
    advance(milliseconds(60'000));  // all hosts that this gateway is told of, and none has it
    EXPECT_EQ(200, rest("GET", "/api/kernels/" + group.kernel).status);
    EXPECT_EQ(204, rest("DELETE", "/api/kernels/" + group.kernel).status);
    EXPECT_EQ(404, rest("GET", "/api/kernels/" + group.kernel).status);
}

TEST_F(Rest, ASocketNeedsATokenAndAKernel) {
    all_up();
    auto group = running_kernel();
    const auto refused = [&](const std::string& target) {
        const auto answer =
            gateway_->upgrade({.method = "GET", .target = target, .headers = {}, .body = {}});
        const auto* response = std::get_if<jupyter::HttpResponse>(&answer);
        return response == nullptr ? 101 : response->status;
    };
    const auto target = "/api/kernels/" + group.kernel + "/channels";
    EXPECT_EQ(401, refused(target));
    EXPECT_EQ(101, refused(target + "?token=secret"));
    EXPECT_EQ(101, refused("/t/secret" + target));
    EXPECT_EQ(404, refused("/t/secret/api/kernels/" + Uuid{1, 2}.str() + "/channels"));
    EXPECT_EQ(404, refused("/t/secret/api/terminals"));
}

TEST_F(Rest, OutputsOfACellAreReadFromItsExecutor) {
    all_up();
    auto group = running_kernel();
    group.executor = 2;
    report(group);
    std::vector<jupyter::HttpResponse> answers;
    const auto ask = [&](const std::string& query) {
        gateway_->handle({.method = "GET",
                          .target = "/api/nbos/kernels/" + group.kernel + "/outputs" + query,
                          .headers = {{"authorization", "token secret"}},
                          .body = {}},
                         [&](jupyter::HttpResponse answer) { answers.push_back(answer); });
    };
    ask("");
    ASSERT_EQ(1U, answers.size());
    EXPECT_EQ(400, answers[0].status);
    ask("?msg_id=m1&session=s1");
    auto reads = link_.take<cluster::ReadOutputs>();
    ASSERT_EQ(1U, reads.size());
    EXPECT_EQ("h2", reads[0].first);
    EXPECT_EQ("m1 s1", reads[0].second.msg_id + " " + reads[0].second.session);
    auto picture = said("iopub", "display_data", "o2", "s1", "m1", R"({"data": {}})");
    picture.buffers.push_back(Bytes::copy("png"));
    const cluster::CellOutputs outputs{.request = reads[0].second.request,
                                       .kernel = id_of(group),
                                       .session = "s1",
                                       .state = cluster::CellOutputs::State::kRunning,
                                       .messages = {stream("o1", "s1", "m1", "hi"), picture}};
    tell("h2", outputs);
    tell("h2", outputs);  // a repeated request is answered again
    ASSERT_EQ(2U, answers.size());
    EXPECT_EQ(200, answers[1].status);
    EXPECT_EQ("running", jupyter::string_field(answers[1].body, "state"));
    EXPECT_THAT(answers[1].body, HasSubstr(R"("text": "hi")"));
    EXPECT_THAT(answers[1].body, HasSubstr(R"("buffers_left_out": 1)"));
    EXPECT_TRUE(jupyter::object_fields(answers[1].body)) << answers[1].body;
    ask("?msg_id=m9");
    reads = link_.take<cluster::ReadOutputs>();
    ASSERT_EQ(1U, reads.size());
    tell("h2", cluster::Reply{.request = reads[0].second.request,
                              .ok = false,
                              .code = Errc::kNotFound,
                              .what = "no cell m9"});
    ASSERT_EQ(3U, answers.size());
    EXPECT_EQ(404, answers[2].status);
    EXPECT_THAT(answers[2].body, HasSubstr("no cell m9"));
}

TEST_F(Rest, TheCommandLineSeesReplicasAndHosts) {
    all_up();
    auto group = running_kernel();
    const auto kernels = rest("GET", "/api/nbos/kernels").body;
    EXPECT_THAT(kernels, HasSubstr("\"leader_host\": \"h1\""));
    EXPECT_THAT(kernels, HasSubstr("\"host\": \"h3\", \"up\": true, \"member\": \"voter\""));
    EXPECT_THAT(rest("GET", "/api/nbos/hosts").body, HasSubstr("\"id\": \"h4\""));
    EXPECT_THAT(rest("GET", "/api/nbos/status").body, HasSubstr("\"hosts_up\": 4"));
    EXPECT_EQ(404, rest("POST", "/api/nbos/kernels/" + group.kernel + "/kill-replica",
                        R"({"host": "h9"})")
                       .status);
    EXPECT_EQ(0, rest("POST", "/api/nbos/kernels/" + group.kernel + "/kill-replica").status);
    EXPECT_EQ("h1", link_.take<cluster::KillInterpreter>().at(0).first);
}

}  // namespace
}  // namespace nbos::gateway
