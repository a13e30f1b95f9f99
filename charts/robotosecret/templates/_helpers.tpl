{{/* The name of everything: the release's name when it already says robotosecret, else release-robotosecret. */}}
{{- define "robotosecret.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Never changes in a release's life: a Deployment's selector can't be edited. */}}
{{- define "robotosecret.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of the pod of `helm test`, which the Service must not find. */}}
{{- define "robotosecret.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "robotosecret.labels" -}}
{{ include "robotosecret.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "robotosecret.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "robotosecret.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "robotosecret.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Whether the admission policy on Secrets is part of the release: "true" or nothing. */}}
{{- define "robotosecret.guarded" -}}
{{- if or .Values.confined .Values.admissionPolicy.enabled -}}true{{- end -}}
{{- end -}}

{{/* The start of the name of admission policies: with a dot where the roles have a colon, which the names of policies don't take.
     No namespace has a dot in its name. */}}
{{- define "robotosecret.policyName" -}}
{{- printf "%s.%s" .Release.Namespace (include "robotosecret.fullname" .) -}}
{{- end -}}

{{/* The condition under which an admission policy holds. */}}
{{- define "robotosecret.byTheController" -}}
- name: by-the-controller
  expression: request.userInfo.username == {{ printf "system:serviceaccount:%s:%s" .Release.Namespace (include "robotosecret.serviceAccountName" .) | quote }}
{{- end -}}

{{/* Puts an admission policy into force. Takes the root and the policy's name. */}}
{{- define "robotosecret.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "robotosecret.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end -}}

{{/* Which series are this release's. */}}
{{- define "robotosecret.series" -}}
{{- default (printf "job=%q,namespace=%q" (include "robotosecret.fullname" .) .Release.Namespace) .Values.prometheusRule.selector -}}
{{- end -}}

{{/* The rights in a namespace: in the ClusterRole with scope cluster, in one Role a namespace with scope namespaces. */}}
{{- define "robotosecret.namespacedRules" -}}
# What users ask for. patch: the finalizer of a RobotoSecret that merges into a Secret of others, so that its keys are taken
# out before it goes. RBAC can't say "only metadata.finalizers", so this right edits every RobotoSecret in its scope{{ if include "robotosecret.guarded" . }} but for their
# specs, which the admission policy in admission.yaml keeps as they are{{ end }}; the controller patches nothing else of them, and never a spec.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets]
  verbs: [get, list, watch, patch]
# What came of it: written by server-side apply, which is a patch.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets/status]
  verbs: [patch]
# Our ownerReference sets blockOwnerDeletion; clusters with the admission plugin OwnerReferencesPermissionEnforcement
# ask for this right before they accept it.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets/finalizers]
  verbs: [update]
{{- if .Values.confined }}
# The mirrored Secrets. create: a new one; patch: every later write, and a dry run that changes nothing and shows the metadata; delete: a
# renamed target or a changed type. No get, list or watch. RBAC can't say "only ours": the admission policy in admission.yaml refuses writes to
# all others. It can't keep patch from telling: the API server refuses a patch that makes no Secret before it asks any policy, and
# that answer shows the Secret. So whoever steals the token and knows a Secret's name can read it; guard this ServiceAccount accordingly.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, delete]
{{- else }}
# The mirrored Secrets. create: a new one; patch: every later write; delete: a renamed target or a changed type;
# get, list, watch: metadata only, to see drift. RBAC can't say "metadata only" or "only ours", so this right
# reads {{ if include "robotosecret.guarded" . }}every Secret in its scope (the admission policy in admission.yaml refuses writes to those that aren't ours){{ else }}and changes every Secret in its scope{{ end }}: guard this ServiceAccount accordingly.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- if .Values.clusterRobotoSecrets.enabled }}
# The RobotoSecrets that ClusterRobotoSecrets make: each is made, changed as its template changes, and removed with it. RBAC can't say "only
# those"{{ if include "robotosecret.guarded" . }}; the admission policy in admission.yaml does{{ end }}.
- apiGroups: [robotosecret.dev]
  resources: [robotosecrets]
  verbs: [create, update, delete]
{{- end }}
# The namespace's own providers, and whether their identity works and so much vanished from the store that nothing is removed.
- apiGroups: [robotosecret.dev]
  resources: [robotoproviders]
  verbs: [get, list, watch]
- apiGroups: [robotosecret.dev]
  resources: [robotoproviders/status]
  verbs: [patch]
# Templates that RobotoSecrets of the same namespace keep in ConfigMaps (spec.target.template.from): get for the text, list and
# watch, metadata only and from the first such RobotoSecret on, to see a change.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Events on RobotoSecrets; patch counts a repeated one up instead of making another.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.rollout.enabled }}
# Restarts after a rotation: one annotation on the pod template. The right to patch a workload is the right to run one; the
# admission policy in rollout.yaml takes it back to that annotation. Not create: what isn't there is never made.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [patch]
{{- end }}
{{- end -}}

{{/* What a token of a ServiceAccount takes. */}}
{{- define "robotosecret.tokenRules" -}}
# A token for AWS: get for the annotation by which the ServiceAccount opts in, create for the token itself.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
  resourceNames: [{{ .name | quote }}]
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
  resourceNames: [{{ .name | quote }}]
{{- end -}}

{{/* Binds a Role of the same name to the controller. Takes the root, the Role's name and namespace. */}}
{{- define "robotosecret.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "robotosecret.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ include "robotosecret.serviceAccountName" .root }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* That two maps of an admission policy are equal but for some keys: takes the names of both, new and old, and the list of keys. */}}
{{- define "robotosecret.equalBut" -}}
{{- $new := index . 0 }}
{{- $old := index . 1 }}
{{- $except := index . 2 | toJson -}}
{{ $new }}.all(k, k in {{ $except }} || (k in {{ $old }} && {{ $new }}[k] == {{ $old }}[k]))
&& {{ $old }}.all(k, k in {{ $except }} || k in {{ $new }})
{{- end -}}
