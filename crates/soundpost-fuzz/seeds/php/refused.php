<?php
if (env('A')) { return ['a' => 'hush']; }
return [(1 + 2];
