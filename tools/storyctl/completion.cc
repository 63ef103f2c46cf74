#include "tools/storyctl/completion.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace storyfarm::storyctl {
namespace {

// Words that may follow a command: its options, and the commands below it.
std::map<std::string, std::vector<std::string>> Followers(const std::vector<CommandWords>& commands) {
  std::map<std::string, std::vector<std::string>> followers;
  for (const CommandWords& command : commands) {
    auto& words = followers[command.name];
    words.insert(words.end(), command.options.begin(), command.options.end());
    if (command.name.empty()) continue;
    const std::vector<std::string> parts = absl::StrSplit(command.name, ' ');
    const std::string parent = absl::StrJoin(parts.begin(), parts.end() - 1, " ");
    followers[parent].push_back(parts.back());
  }
  return followers;
}

// bash's programmable completion; zsh runs it through bashcompinit.
std::string Bash(const std::vector<CommandWords>& commands) {
  std::string script =
      "_storyctl() {\n"
      "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" command=\"\" word words=\"\" i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=\"${COMP_WORDS[i]}\"\n"
      "    case \"${command:+$command }$word\" in\n";
  const auto followers = Followers(commands);
  for (const auto& [name, words] : followers) {
    if (!name.empty()) absl::StrAppend(&script, "      '", name, "') command='", name, "' ;;\n");
  }
  absl::StrAppend(&script, "    esac\n  done\n  case \"$command\" in\n");
  for (const auto& [name, words] : followers) {
    absl::StrAppend(&script, "    '", name, "') words='", absl::StrJoin(words, " "), "' ;;\n");
  }
  absl::StrAppend(&script,
                  "  esac\n"
                  "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                  "  if [[ -n \"$command\" && \"$cur\" != -* ]]; then\n"
                  "    COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
                  "  fi\n"
                  "}\n"
                  "complete -o filenames -F _storyctl storyctl\n");
  return script;
}

std::string Fish(const std::vector<CommandWords>& commands) {
  std::string script;
  const auto quoted = [](const std::string& text) { return absl::StrReplaceAll(text, {{"'", "\\'"}}); };
  for (const CommandWords& command : commands) {
    const std::vector<std::string> parts = absl::StrSplit(command.name, ' ');
    std::string seen;
    for (size_t i = 0; i < parts.size() && !command.name.empty(); ++i) {
      const bool last = i + 1 == parts.size();
      if (last) {
        const std::string when = i == 0 ? "__fish_use_subcommand" : seen;
        absl::StrAppend(&script, "complete -c storyctl -n '", when, "' -a ", parts[i], " -d '",
                        quoted(command.description), "'\n");
      }
      absl::StrAppend(&seen, i == 0 ? "" : "; and ", "__fish_seen_subcommand_from ", parts[i]);
    }
    for (const std::string& option : command.options) {
      absl::StrAppend(&script, "complete -c storyctl", seen.empty() ? "" : absl::StrCat(" -n '", seen, "'"), " -l ",
                      option.substr(2), "\n");
    }
  }
  return script;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CommandWords>& commands) {
  if (shell == "bash") return Bash(commands);
  if (shell == "zsh") return absl::StrCat("autoload -U +X bashcompinit && bashcompinit\n", Bash(commands));
  if (shell == "fish") return Fish(commands);
  return absl::InvalidArgumentError(absl::StrCat("no completion for '", shell, "'; there is one for bash, zsh, fish"));
}

}  // namespace storyfarm::storyctl
