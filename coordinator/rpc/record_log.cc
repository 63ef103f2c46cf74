#include "coordinator/rpc/record_log.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::Record;

std::string FaultName(const farm::v1::Failure& failure) {
  return absl::AsciiStrToLower(farm::v1::FailureKind_Name(failure.kind()));
}

void LogJob(base::Log& log, const Record& record) {
  switch (record.fact_case()) {
    case Record::kJobAccepted: {
      const farm::v1::JobSpec& spec = record.job_accepted().spec();
      int panels = 0;
      for (const auto& chapter : spec.story().chapters()) panels += chapter.panels_size();
      log.Info("job accepted", {{"job", spec.job_id()},
                                {"title", spec.story().title()},
                                {"model", spec.model().name()},
                                {"panels", panels},
                                {"identities", spec.identities_size()},
                                {"pages", spec.pages_size()}});
      return;
    }
    case Record::kJobCancelled:
      return log.Info("job cancelled", {{"job", record.job_cancelled().job_id()}});
    case Record::kJobFinished:
      return log.Info("job finished", {{"job", record.job_finished().job_id()},
                                       {"state", plan::StateName(record.job_finished().state())}});
    case Record::kJobArchived:
      return log.Info("job archived", {{"job", record.job_archived().job_id()}});
    case Record::kJobForgotten:
      return log.Info("job removed", {{"job", record.job_forgotten().job_id()}});
    case Record::kJobChanged:
      return log.Info("job changed", {{"job", record.job_changed().job_id()},
                                      {"paused", record.job_changed().paused() ? "yes" : "no"},
                                      {"priority", record.job_changed().priority()}});
    case Record::kTasksRetried: {
      const farm::v1::TasksRetried& retried = record.tasks_retried();
      return log.Info("failed tasks are tried once more",
                      {{"job", retried.job_id()},
                       {"task", retried.has_task() ? plan::TaskName(retried.task()) : "all"}});
    }
    default:
      return;
  }
}

void LogTask(base::Log& log, const Record& record) {
  switch (record.fact_case()) {
    case Record::kGranted: {
      const farm::v1::Granted& granted = record.granted();
      log.Info("granted", {{"job", granted.job_id()},
                           {"task", granted.numbers_size() == 0
                                        ? ""
                                        : plan::TaskName(granted.job_id(), granted.kind(), granted.numbers(0))},
                           {"tasks", absl::StrJoin(granted.numbers(), ",")},
                           {"token", plan::TokenName(granted.token())},
                           {"node", granted.node_name().empty() ? granted.node_id() : granted.node_name()},
                           {"device", granted.device()},
                           {"ahead", granted.ahead()},
                           {"planned_bytes", granted.planned_bytes()}});
      return;
    }
    case Record::kFrameFinished: {
      const farm::v1::FrameFinished& done = record.frame_finished();
      return log.Info("frame finished",
                      {{"job", done.job_id()},
                       {"task", plan::TaskName(done.job_id(), farm::v1::TASK_FRAME, done.result().panel())},
                       {"token", plan::TokenName(done.token())},
                       {"node", done.node_id()},
                       {"render_ms", done.result().render_ms()},
                       {"peak_bytes", done.result().peak_bytes()},
                       {"predicted_peak_bytes", done.result().predicted_peak_bytes()}});
    }
    case Record::kIdentityFinished: {
      const farm::v1::IdentityFinished& done = record.identity_finished();
      return log.Info("identity finished",
                      {{"job", done.job_id()},
                       {"task", plan::TaskName(done.job_id(), farm::v1::TASK_IDENTITY, done.number())},
                       {"token", plan::TokenName(done.token())},
                       {"node", done.node_id()},
                       {"render_ms", done.result().render_ms()},
                       {"peak_bytes", done.result().peak_bytes()},
                       {"predicted_peak_bytes", done.result().plan().predicted_peak_bytes()}});
    }
    case Record::kPageFinished: {
      const farm::v1::PageFinished& done = record.page_finished();
      return log.Info("page finished", {{"job", done.job_id()},
                                        {"task", plan::TaskName(done.job_id(), farm::v1::TASK_PAGE, done.number())},
                                        {"token", plan::TokenName(done.token())},
                                        {"node", done.node_id()},
                                        {"compose_ms", done.result().compose_ms()}});
    }
    case Record::kTextFinished: {
      const farm::v1::TextFinished& done = record.text_finished();
      return log.Info("prompts encoded", {{"job", done.job_id()},
                                          {"task", plan::TaskName(done.job_id(), farm::v1::TASK_TEXT, done.number())},
                                          {"token", plan::TokenName(done.token())},
                                          {"node", done.node_id()},
                                          {"render_ms", done.result().render_ms()},
                                          {"peak_bytes", done.result().peak_bytes()}});
    }
    case Record::kTextTaken:
      return log.Info("prompts taken", {{"job", record.text_taken().job_id()},
                                        {"task", plan::TaskName(record.text_taken().job_id(), farm::v1::TASK_TEXT,
                                                                record.text_taken().number())}});
    case Record::kTextReopened:
      return log.Warning("prompts are encoded again: their file is missing",
                         {{"job", record.text_reopened().job_id()},
                          {"task", plan::TaskName(record.text_reopened().job_id(), farm::v1::TASK_TEXT,
                                                  record.text_reopened().number())}});
    case Record::kTaskReturned: {
      const farm::v1::TaskReturned& returned = record.task_returned();
      return log.Warning("task returned", {{"job", returned.task().job_id()},
                                           {"task", plan::TaskName(returned.task())},
                                           {"token", plan::TokenName(returned.token())},
                                           {"node", returned.node_id()},
                                           {"fault", FaultName(returned.why())},
                                           {"why", returned.why().message()}});
    }
    case Record::kTaskFailed: {
      const farm::v1::TaskFailed& failed = record.task_failed();
      return log.Error("task failed", {{"job", failed.task().job_id()},
                                       {"task", plan::TaskName(failed.task())},
                                       {"fault", FaultName(failed.why())},
                                       {"why", failed.why().message()}});
    }
    default:
      return;
  }
}

void LogPack(base::Log& log, const Record& record) {
  switch (record.fact_case()) {
    case Record::kPackStored: {
      const farm::v1::PackManifest& pack = record.pack_stored().manifest();
      return log.Info("pack stored", {{"pack", plan::ShortKey(pack.key())},
                                      {"character", pack.character()},
                                      {"job", pack.job_id()},
                                      {"bytes", pack.size_bytes()},
                                      {"render_ms", pack.render_ms()}});
    }
    case Record::kPackUsed:
      return log.Info("pack hit", {{"job", record.pack_used().job_id()},
                                   {"task", plan::TaskName(record.pack_used().job_id(), farm::v1::TASK_IDENTITY,
                                                           record.pack_used().number())}});
    case Record::kPackNamed:
      return log.Info("pack named",
                      {{"pack", plan::ShortKey(record.pack_named().key())}, {"name", record.pack_named().name()}});
    case Record::kPackRemoved:
      return log.Info("pack removed", {{"pack", plan::ShortKey(record.pack_removed().key())}});
    case Record::kIdentityReopened:
      return log.Warning("identity is computed again: files of its bank are missing",
                         {{"job", record.identity_reopened().job_id()},
                          {"task", plan::TaskName(record.identity_reopened().job_id(), farm::v1::TASK_IDENTITY,
                                                  record.identity_reopened().number())}});
    default:
      return log.Warning("pack lost: files of it are missing", {{"pack", plan::ShortKey(record.pack_lost().key())}});
  }
}

void LogMember(base::Log& log, const Record& record) {
  switch (record.fact_case()) {
    case Record::kMemberAdded: {
      const farm::v1::Member& member = record.member_added().member();
      return log.Info("member joined", {{"member", member.member_id()},
                                        {"name", member.name()},
                                        {"kind", plan::MemberKindName(member.kind())},
                                        {"role", plan::RoleName(member.role())},
                                        {"node", member.node_id()}});
    }
    case Record::kMemberRenamed:
      return log.Info("member renamed",
                      {{"member", record.member_renamed().member_id()}, {"name", record.member_renamed().name()}});
    case Record::kMemberRenewed:
      return log.Info("certificate renewed", {{"member", record.member_renewed().member_id()}});
    case Record::kMemberRemoved:
      return log.Info("member removed", {{"member", record.member_removed().member_id()}});
    default:
      return log.Info("authority chosen",
                      {{"authority", base::Digest::FromBytes(record.authority_chosen().digest())->ShortHex()}});
  }
}

}  // namespace

void LogRecord(base::Log& log, const Record& record) {
  switch (record.fact_case()) {
    case Record::kTakenOver:
      return log.Info("took the farm over",
                      {{"incarnation", absl::StrCat(absl::Hex(record.taken_over().incarnation(), absl::kZeroPad16))}});
    case Record::kModelAdded: {
      const farm::v1::ModelManifest& model = record.model_added().model();
      const auto digest = base::Digest::FromBytes(model.digest());
      return log.Info(
          "model added",
          {{"model", model.name()}, {"digest", digest.ok() ? digest->ShortHex() : ""}, {"files", model.files_size()}});
    }
    case Record::kNeedLearned: {
      const farm::v1::NeedLearned& need = record.need_learned();
      return log.Warning("need learned", {{"backend", plan::BackendName(need.backend())},
                                          {"planned_bytes", need.planned_bytes()},
                                          {"needed_bytes", need.needed_bytes()}});
    }
    case Record::kJobAccepted:
    case Record::kJobCancelled:
    case Record::kJobFinished:
    case Record::kJobArchived:
    case Record::kJobForgotten:
    case Record::kJobChanged:
    case Record::kTasksRetried:
      return LogJob(log, record);
    case Record::kNodeDrained:
      return log.Info(record.node_drained().drained() ? "node drained" : "node given back to the farm",
                      {{"node", record.node_drained().node_id()}});
    case Record::kNodeLimited: {
      const farm::v1::NodeLimited& limited = record.node_limited();
      return log.Info("node limited", {{"node", limited.node_id()},
                                       {"limits", limited.has_limits() ? plan::LimitsInWords(limited.limits()) : "none"}});
    }
    case Record::kPackStored:
    case Record::kPackUsed:
    case Record::kPackNamed:
    case Record::kPackRemoved:
    case Record::kPackLost:
    case Record::kIdentityReopened:
      return LogPack(log, record);
    case Record::kAuthorityChosen:
    case Record::kMemberAdded:
    case Record::kMemberRenamed:
    case Record::kMemberRenewed:
    case Record::kMemberRemoved:
      return LogMember(log, record);
    case Record::kNoticeSettled: {
      const farm::v1::NoticeSettled& settled = record.notice_settled();
      if (settled.delivered()) {
        log.Info("webhook told of the job's end", {{"job", settled.job_id()}, {"tries", settled.tries()}});
      } else {
        log.Error("webhook not told of the job's end: given up",
                  {{"job", settled.job_id()}, {"tries", settled.tries()}, {"why", settled.why()}});
      }
      return;
    }
    default:
      return LogTask(log, record);
  }
}

}  // namespace storyfarm::coordinator
