"""Where cameras stand and what their lenses do: from people, from boards, and from calibrations that have moved."""
